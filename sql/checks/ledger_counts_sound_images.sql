-- A row is an extraction, or an edit, with more images than its split has without a defect.

with

sound_images as (

    select split_id, count(*) filter (where defect is null) as images
    from images
    group by split_id

),

covered as (

    select
        extractions.extraction_id,
        null as edit_id,
        extractions.split_id,
        sum(extraction_blocks.images) as images
    from extractions
    inner join extraction_blocks on extractions.extraction_id = extraction_blocks.extraction_id
    group by extractions.extraction_id, extractions.split_id
    union all
    select null as extraction_id, edit_id, split_id, sum(images) as images
    from edit_blocks
    group by edit_id, split_id

)

select
    covered.extraction_id,
    covered.edit_id,
    covered.split_id,
    covered.images as images_in_ledger,
    sound_images.images as sound_images
from covered
left join sound_images on covered.split_id = sound_images.split_id
where covered.images > coalesce(sound_images.images, 0)
