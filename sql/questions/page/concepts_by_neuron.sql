-- Which concepts do the right neurons carry, in the layer with most interpretable neurons?
-- grain: layer, concept
--
-- The figure of the original study. The 30 commonest concepts; num_concepts and num_neurons count all of them.

select
    concept_counts_by_neuron.layer,
    concept_counts_by_neuron.concept,
    concept_counts_by_neuron.neurons,
    concept_counts_by_neuron.share,
    count(*) over () as num_concepts,
    cast(sum(concept_counts_by_neuron.neurons) over () as bigint) as num_neurons
from concept_counts_by_neuron
where concept_counts_by_neuron.layer = (
    select layer from layer_summary order by num_interpretable desc nulls last, position desc, layer limit 1
)
order by concept_counts_by_neuron.neurons desc, concept_counts_by_neuron.concept
limit 30
