-- A row is an edit whose predictions over a split are not exactly one for each image of its blocks in the ledger.
--
-- The comparison is as in activations_match_the_ledger, because a search stores millions of predictions.

with

sound_images as (

    select
        image_id,
        split_id,
        row_number() over (partition by split_id order by position) as place
    from images
    where defect is null

),

covered as (

    select edit_id, split_id, sum(images) as images
    from edit_blocks
    group by edit_id, split_id

),

expected as (

    select
        covered.edit_id,
        covered.split_id,
        count(*) as images,
        sum(sound_images.place) as places,
        sum(sound_images.place * sound_images.place) as squares
    from covered
    inner join sound_images
        on
            covered.split_id = sound_images.split_id
            and covered.images >= sound_images.place
    group by covered.edit_id, covered.split_id

),

found as (

    select
        edit_predictions.edit_id,
        sound_images.split_id,
        count(*) as images,
        sum(sound_images.place) as places,
        sum(sound_images.place * sound_images.place) as squares
    from edit_predictions
    inner join sound_images on edit_predictions.image_id = sound_images.image_id
    group by edit_predictions.edit_id, sound_images.split_id

)

select
    coalesce(expected.edit_id, found.edit_id) as edit_id,
    coalesce(expected.split_id, found.split_id) as split_id,
    coalesce(expected.images, 0) as images_expected,
    coalesce(found.images, 0) as images_found
from expected
full join found
    on
        expected.edit_id = found.edit_id
        and expected.split_id = found.split_id
where
    expected.images is distinct from found.images
    or expected.places is distinct from found.places
    or expected.squares is distinct from found.squares
