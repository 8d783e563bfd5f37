-- How many neurons of each layer carry one concept as their label?
-- grain: layer
-- parameters: concept
--
-- num_interpretable: NULL if no null was drawn in the layer, so that it is not known.

select
    layer_summary.layer,
    layer_summary.neurons as neurons_of_layer,
    count(neuron_concepts.unit) as neurons,
    case
        when count(neuron_concepts.interpretable) = count(neuron_concepts.unit)
            then count(*) filter (where neuron_concepts.interpretable)
    end as num_interpretable
from layer_summary
left join neuron_concepts on layer_summary.layer = neuron_concepts.layer and neuron_concepts.concept = $concept
group by layer_summary.layer, layer_summary.neurons, layer_summary.position
order by layer_summary.position, layer_summary.layer
limit 1000
