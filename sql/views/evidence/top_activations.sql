-- The images of a probing set that activate each neuron most, best first, as far as any scorer may look.
-- grain: split_id, neuron_id, rank
-- materialized: table by neuron
--
-- 256 is the largest top_k that a study may ask for. It is a constant because DuckDB then keeps a heap per
-- neuron instead of sorting everything; the pair (value, -image_id) breaks ties by the smaller image.
-- The 256th best of the first 4,096 images is a floor under which no other image can be among the best of all: only
-- what reaches it is ranked, which takes half the time.

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
    group by first_images.split_id, activations.neuron_id

)

select
    floors.split_id,
    activations.neuron_id,
    row_number() over (
        partition by floors.split_id, activations.neuron_id
        order by (activations.value, -activations.image_id) desc
    ) as rank,
    activations.image_id,
    activations.value
from activations
inner join floors
    on
        activations.neuron_id = floors.neuron_id
        and (floors.floor is null or activations.value >= floors.floor)
inner join images
    on
        activations.image_id = images.image_id
        and floors.split_id = images.split_id
qualify
    row_number() over (
        partition by floors.split_id, activations.neuron_id
        order by (activations.value, -activations.image_id) desc
    ) <= 256
