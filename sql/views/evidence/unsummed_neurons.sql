-- The neurons of a probing set that lack sums for some block, so that only their activations can be read.
-- grain: split_id, neuron_id
-- materialized: table
--
-- The layer is extracted in part, or its activations were stored without sums.

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
