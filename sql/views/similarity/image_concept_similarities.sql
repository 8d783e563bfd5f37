-- The cosine of each probing image and each concept in CLIP.
-- grain: clip_id, image_id, concept_id
-- materialized: table
--
-- Only for dissections that the views score. A dissection that the kernel scores has too many pairs to store.

with

asked as (

    select distinct clip_id, split_id, concept_set_id
    from dissections
    where engine = 'sql'

)

select
    asked.clip_id,
    image_embeddings.image_id,
    concept_embeddings.concept_id,
    nd_dot(image_embeddings.embedding, concept_embeddings.embedding) as similarity
from asked
inner join images on asked.split_id = images.split_id
inner join image_embeddings
    on
        images.image_id = image_embeddings.image_id
        and asked.clip_id = image_embeddings.clip_id
inner join concepts on asked.concept_set_id = concepts.concept_set_id
inner join concept_embeddings
    on
        concepts.concept_id = concept_embeddings.concept_id
        and asked.clip_id = concept_embeddings.clip_id
