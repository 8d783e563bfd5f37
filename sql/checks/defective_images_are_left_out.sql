-- A row is an image with a defect that has activations, embeddings or predictions.
-- cheap: no

with

looked_at as (

    select distinct 'activations' as table_name, image_id
    from activations
    where image_id in (select image_id from images where defect is not null)
    union all
    select distinct 'predictions' as table_name, image_id
    from predictions
    union all
    select distinct 'edit_predictions' as table_name, image_id
    from edit_predictions
    union all
    select distinct 'image_embeddings' as table_name, image_id
    from image_embeddings

)

select looked_at.table_name, images.image_id, images.defect
from looked_at
inner join images on looked_at.image_id = images.image_id
where images.defect is not null
