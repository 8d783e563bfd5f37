-- What is CLIP's embedding of a concept of the shown dissection?
-- grain: concept
-- parameters: concept
-- engine: duckdb

select concepts.concept, concept_embeddings.embedding
from shown_dissection
inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
inner join concepts on dissections.concept_set_id = concepts.concept_set_id
inner join concept_embeddings
    on
        concepts.concept_id = concept_embeddings.concept_id
        and dissections.clip_id = concept_embeddings.clip_id
where lower(concepts.concept) = lower($concept)
order by concepts.position
limit 1
