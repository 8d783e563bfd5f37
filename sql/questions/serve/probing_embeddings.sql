-- What are CLIP's embeddings of the probing images? At most $most, evenly over the set.
-- grain: image_id
-- parameters: most
-- engine: duckdb

with

numbered as (

    select
        images.image_id,
        dissections.clip_id,
        row_number() over (order by images.image_id) as place,
        count(*) over () as images
    from shown_dissection
    inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
    inner join images on dissections.split_id = images.split_id
    where images.defect is null

)

select numbered.image_id, image_embeddings.embedding
from numbered
inner join image_embeddings
    on
        numbered.image_id = image_embeddings.image_id
        and numbered.clip_id = image_embeddings.clip_id
where numbered.place % cast(ceil(numbered.images / $most) as bigint) = 0 or numbered.images <= $most
order by numbered.image_id
