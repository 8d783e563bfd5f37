-- A row is a CLIP model with embeddings of different widths: they cannot be compared.

with

widths as (

    select clip_id, len(embedding) as width
    from image_embeddings
    union all
    select clip_id, len(embedding) as width
    from concept_embeddings

)

select clip_id, min(width) as smallest, max(width) as largest
from widths
group by clip_id
having min(width) <> max(width)
