-- Neurons of a probing set of which only the activations are known: half extracted, or by a version that summed nothing.
-- grain: split_id, neuron_id
-- materialized: table

select distinct extractions.split_id, neurons.neuron_id
from extractions
inner join neurons on extractions.layer_id = neurons.layer_id
left join summed_neurons
    on
        extractions.split_id = summed_neurons.split_id
        and neurons.neuron_id = summed_neurons.neuron_id
where
    extractions.target = 'activations'
    and summed_neurons.neuron_id is null
