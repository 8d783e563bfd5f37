-- What are CLIP's embeddings of some images?
-- grain: image_id
-- parameters: images
-- engine: duckdb
--
-- $images is a list of image ids in JSON: [1, 2].

with

wanted as (

    select unnest(from_json($images, '["INTEGER"]')) as image_id

)

select image_embeddings.image_id, image_embeddings.embedding
from shown_dissection
inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
inner join image_embeddings on dissections.clip_id = image_embeddings.clip_id
inner join wanted on image_embeddings.image_id = wanted.image_id
