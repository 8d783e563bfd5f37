-- The images of a probing set that activate each neuron most, best first, as far as any scorer may look.
-- grain: split_id, neuron_id, rank
-- materialized: table by neuron
--
-- 256 is the largest top_k that a study may ask for. It is a constant because DuckDB then keeps a heap per
-- neuron instead of sorting everything; the pair (value, -image_id) breaks ties by the smaller image.
-- The best of all are among the best of each block. Where those were not kept, the 256th best of the first 4,096
-- images is a floor under which no other image can be among the best: only what reaches it is ranked.

with

first_images as (

    select split_id, image_id
    from images
    where defect is null
    qualify row_number() over (partition by split_id order by image_id) <= 4096

),

floors as (

    -- NULL where there are fewer: then every image may be among the best.
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
