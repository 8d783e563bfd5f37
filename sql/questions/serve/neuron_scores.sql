-- Which ten concepts fit one neuron best, and with what scores?
-- grain: concept
-- parameters: neuron

with

scores as (

    select
        concepts.concept,
        concepts.position,
        concept_scores.similarity,
        concept_scores.z,
        max(concept_scores.similarity) over () as best
    from shown_dissection
    inner join concept_scores on shown_dissection.dissection_id = concept_scores.dissection_id
    inner join concepts on concept_scores.concept_id = concepts.concept_id
    where concept_scores.neuron_id = $neuron

)

select concept, similarity, z
from scores
order by nd_tied(similarity, best) desc, position
limit 10
