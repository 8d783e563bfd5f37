-- A row is an embedding whose length is not one, or that contains values that are not numbers: its cosines would be
-- wrong.

with

embeddings as (

    select 'image' as of_what, clip_id, image_id as id, embedding
    from image_embeddings
    union all
    select 'concept' as of_what, clip_id, concept_id as id, embedding
    from concept_embeddings

),

measured as (

    select of_what, clip_id, id, sqrt(list_sum(list_transform(embedding, lambda x: x * x))) as length
    from embeddings

)

select of_what, clip_id, id, length
from measured
where length is null or not abs(length - 1) <= cast(0.001 as double)
