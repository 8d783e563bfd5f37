-- A row is an extraction over more images than its split has sound ones: images were marked after it ran.

with

sound_images as (

    select split_id, count(*) filter (where defect is null) as images
    from images
    group by split_id

),

covered as (

    select extraction_id, sum(images) as images
    from extraction_blocks
    group by extraction_id

)

select
    extractions.extraction_id,
    covered.images as images_in_ledger,
    sound_images.images as sound_images
from extractions
inner join covered on extractions.extraction_id = covered.extraction_id
left join sound_images on extractions.split_id = sound_images.split_id
where covered.images > coalesce(sound_images.images, 0)
