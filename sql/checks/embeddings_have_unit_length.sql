-- A row is an embedding that is not of length one, or not of numbers: its cosines would be no cosines.

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
