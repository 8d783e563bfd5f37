-- Every concept that has a score for a neuron, best first, in the shown dissection.
-- grain: network, layer, unit, rank, dissection_id
-- public

select
    named_neurons.network,
    named_neurons.layer,
    named_neurons.unit,
    row_number() over (
        partition by concept_scores.neuron_id
        order by cast(concept_scores.similarity as float) desc, concepts.position
    ) as rank,
    concepts.concept,
    concept_scores.similarity,
    concept_scores.dissection_id
from shown_dissection
inner join concept_scores on shown_dissection.dissection_id = concept_scores.dissection_id
inner join named_neurons on concept_scores.neuron_id = named_neurons.neuron_id
inner join concepts on concept_scores.concept_id = concepts.concept_id
