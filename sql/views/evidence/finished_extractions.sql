-- The extractions of which every block is stored, so that their results are complete.
-- grain: extraction_id

with

sound_images as (

    select split_id, count(*) as images
    from images
    where defect is null
    group by split_id

),

covered as (

    select extraction_id, sum(images) as images
    from extraction_blocks
    group by extraction_id

)

select
    extractions.extraction_id,
    extractions.target,
    extractions.split_id,
    extractions.network_id,
    extractions.layer_id,
    extractions.clip_id,
    sound_images.images
from extractions
inner join covered on extractions.extraction_id = covered.extraction_id
inner join sound_images on extractions.split_id = sound_images.split_id
where covered.images = sound_images.images
