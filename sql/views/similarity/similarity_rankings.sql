-- Every concept that has a score for a neuron, best first, in the shown dissection.
-- grain: network, layer, unit, rank, dissection_id
-- public
--
-- Concepts that tie with the best (nd_tied) come first, in the order of their set; the others follow by score.

with

scores as (

    select
        concept_scores.dissection_id,
        concept_scores.neuron_id,
        concept_scores.concept_id,
        concept_scores.similarity,
        max(concept_scores.similarity) over (partition by concept_scores.neuron_id) as best
    from shown_dissection
    inner join concept_scores on shown_dissection.dissection_id = concept_scores.dissection_id

)

select
    named_neurons.network,
    named_neurons.layer,
    named_neurons.unit,
    row_number() over (
        partition by scores.neuron_id
        order by nd_tied(scores.similarity, scores.best) desc, concepts.position
    ) as rank,
    concepts.concept,
    scores.similarity,
    scores.dissection_id
from scores
inner join named_neurons on scores.neuron_id = named_neurons.neuron_id
inner join concepts on scores.concept_id = concepts.concept_id
