-- A row is a CLIP model whose embeddings over a split are not exactly one for each image of the blocks in the ledger.

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

    select extractions.clip_id, extractions.split_id, sum(extraction_blocks.images) as images
    from extractions
    inner join extraction_blocks on extractions.extraction_id = extraction_blocks.extraction_id
    where extractions.target = 'image_embeddings'
    group by extractions.clip_id, extractions.split_id

),

expected as (

    select
        covered.clip_id,
        covered.split_id,
        count(*) as images,
        sum(sound_images.place) as places,
        sum(sound_images.place * sound_images.place) as squares
    from covered
    inner join sound_images
        on
            covered.split_id = sound_images.split_id
            and covered.images >= sound_images.place
    group by covered.clip_id, covered.split_id

),

found as (

    select
        image_embeddings.clip_id,
        sound_images.split_id,
        count(*) as images,
        sum(sound_images.place) as places,
        sum(sound_images.place * sound_images.place) as squares
    from image_embeddings
    inner join sound_images on image_embeddings.image_id = sound_images.image_id
    group by image_embeddings.clip_id, sound_images.split_id

)

select
    coalesce(expected.clip_id, found.clip_id) as clip_id,
    coalesce(expected.split_id, found.split_id) as split_id,
    coalesce(expected.images, 0) as images_expected,
    coalesce(found.images, 0) as images_found
from expected
full join found
    on
        expected.clip_id = found.clip_id
        and expected.split_id = found.split_id
where
    expected.images is distinct from found.images
    or expected.places is distinct from found.places
    or expected.squares is distinct from found.squares
