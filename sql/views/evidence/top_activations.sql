-- The images of a probing set that activate each neuron most, best first, as far as any scorer may look.
-- grain: split_id, neuron_id, rank
-- materialized: table by neuron
--
-- 256 is the largest top_k that a study may ask for. It is a constant because DuckDB then keeps a heap per
-- neuron instead of sorting everything; the pair (value, -image_id) breaks ties by the smaller image.

select
    images.split_id,
    activations.neuron_id,
    row_number() over (
        partition by images.split_id, activations.neuron_id
        order by (activations.value, -activations.image_id) desc
    ) as rank,
    activations.image_id,
    activations.value
from activations
inner join images on activations.image_id = images.image_id
qualify
    row_number() over (
        partition by images.split_id, activations.neuron_id
        order by (activations.value, -activations.image_id) desc
    ) <= 256
