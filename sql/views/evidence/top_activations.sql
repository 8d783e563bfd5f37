-- The images of a probing set that activate each neuron most, best first, up to 256.
-- grain: split_id, neuron_id, rank
-- materialized: table by neuron
--
-- 256 is the largest top_k that a study may set. It is a constant because DuckDB then keeps a heap per neuron and does
-- not sort everything. The pair (value, -image_id) breaks ties in favour of the smaller image id.
-- The top images of a neuron are among the top images of its blocks. If those were not stored, the 256th highest value
-- of the first 4,096 images is a lower bound: only images that reach it are ranked.

with

first_images as (

    select split_id, image_id
    from images
    where defect is null
    qualify row_number() over (partition by split_id order by image_id) <= 4096

),

floors as (

    -- NULL if there are fewer: then every image may be a top image.
    select
        first_images.split_id,
        activations.neuron_id,
        nd_kth_highest(activations.value, 256) as floor
    from activations
    inner join first_images on activations.image_id = first_images.image_id
    where activations.neuron_id in (select neuron_id from unsummed_neurons)
    group by first_images.split_id, activations.neuron_id

),

unsummed_floors as (

    select
        floors.split_id,
        floors.neuron_id,
        floors.floor
    from floors
    inner join unsummed_neurons
        on
            floors.split_id = unsummed_neurons.split_id
            and floors.neuron_id = unsummed_neurons.neuron_id

),

candidates as (

    select
        images.split_id,
        block_tops.neuron_id,
        block_tops.image_id,
        block_tops.value
    from block_tops
    inner join images on block_tops.image_id = images.image_id
    inner join summed_neurons
        on
            images.split_id = summed_neurons.split_id
            and block_tops.neuron_id = summed_neurons.neuron_id
    union all
    select
        unsummed_floors.split_id,
        activations.neuron_id,
        activations.image_id,
        activations.value
    from activations
    inner join unsummed_floors
        on
            activations.neuron_id = unsummed_floors.neuron_id
            and (unsummed_floors.floor is null or activations.value >= unsummed_floors.floor)
    inner join images
        on
            activations.image_id = images.image_id
            and unsummed_floors.split_id = images.split_id

)

select
    split_id,
    neuron_id,
    row_number() over (partition by split_id, neuron_id order by (value, -image_id) desc) as rank,
    image_id,
    value
from candidates
qualify row_number() over (partition by split_id, neuron_id order by (value, -image_id) desc) <= 256
