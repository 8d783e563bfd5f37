-- A row is a layer with neurons whose activations over a split are not exactly one for each image of its blocks.
--
-- Blocks cover the images without a defect in order of position, so the first images are expected. Their number and
-- the sum and sum of squares of their positions are compared, because a list of 290 million pairs would not fit into
-- memory. A neuron with sums may have no activations at all, since a run need not store them.
-- cheap: no

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

    select extractions.layer_id, extractions.split_id, sum(extraction_blocks.images) as images
    from extractions
    inner join extraction_blocks on extractions.extraction_id = extraction_blocks.extraction_id
    where extractions.target = 'activations'
    group by extractions.layer_id, extractions.split_id

),

expected as (

    select
        covered.layer_id,
        covered.split_id,
        count(*) as images,
        sum(sound_images.place) as places,
        sum(sound_images.place * sound_images.place) as squares
    from covered
    inner join sound_images
        on
            covered.split_id = sound_images.split_id
            and covered.images >= sound_images.place
    group by covered.layer_id, covered.split_id

),

left_out as (

    select distinct split_id, neuron_id
    from block_sums
    where neuron_id not in (select distinct neuron_id from activations)

),

expected_of_neurons as (

    select neurons.neuron_id, expected.*
    from neurons
    inner join expected on neurons.layer_id = expected.layer_id
    left join left_out
        on
            neurons.neuron_id = left_out.neuron_id
            and expected.split_id = left_out.split_id
    where left_out.neuron_id is null

),

found as (

    select
        activations.neuron_id,
        sound_images.split_id,
        count(*) as images,
        sum(sound_images.place) as places,
        sum(sound_images.place * sound_images.place) as squares
    from activations
    inner join sound_images on activations.image_id = sound_images.image_id
    where activations.neuron_id in (select neuron_id from neurons)
    group by activations.neuron_id, sound_images.split_id

),

differing as (

    select
        coalesce(expected_of_neurons.neuron_id, found.neuron_id) as neuron_id,
        coalesce(expected_of_neurons.split_id, found.split_id) as split_id,
        coalesce(expected_of_neurons.images, 0) as images_expected,
        coalesce(found.images, 0) as images_found
    from expected_of_neurons
    full join found
        on
            expected_of_neurons.neuron_id = found.neuron_id
            and expected_of_neurons.split_id = found.split_id
    where
        expected_of_neurons.images is distinct from found.images
        or expected_of_neurons.places is distinct from found.places
        or expected_of_neurons.squares is distinct from found.squares

)

select
    neurons.layer_id,
    differing.split_id,
    count(*) as neurons,
    max(differing.images_expected) as images_expected,
    max(differing.images_found) as images_found
from differing
inner join neurons on differing.neuron_id = neurons.neuron_id
group by neurons.layer_id, differing.split_id
