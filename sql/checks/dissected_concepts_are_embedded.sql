-- A row is a concept of a dissection without an embedding by its CLIP: it could not become a label.

select
    dissections.dissection_id,
    concepts.concept_id,
    concepts.concept
from dissections
inner join concepts on dissections.concept_set_id = concepts.concept_set_id
left join concept_embeddings
    on
        concepts.concept_id = concept_embeddings.concept_id
        and dissections.clip_id = concept_embeddings.clip_id
where concept_embeddings.concept_id is null
