-- The edits and splits of which every block is stored, so that their predictions are complete.
-- grain: edit_id, split_id

with

sound_images as (

    select split_id, count(*) as images
    from images
    where defect is null
    group by split_id

),

covered as (

    select edit_id, split_id, sum(images) as images
    from edit_blocks
    group by edit_id, split_id

)

select covered.edit_id, covered.split_id, sound_images.images
from covered
inner join sound_images on covered.split_id = sound_images.split_id
where covered.images = sound_images.images
