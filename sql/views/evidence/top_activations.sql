-- The images of a probing set that activate each neuron most, best first, up to 256.
-- grain: split_id, neuron_id, rank
-- materialized: table by neuron
--
-- They are among the 256 top images of each block, so that no activation is read.
-- 256 is the largest top_k that a study may set. It is a constant because DuckDB then keeps a heap per neuron and does
-- not sort everything. The pair (value, -image_id) breaks ties in favour of the smaller image id.

with

candidates as (

    select
        images.split_id,
        block_tops.neuron_id,
        block_tops.image_id,
        block_tops.value
    from block_tops
    inner join images on block_tops.image_id = images.image_id

)

select
    split_id,
    neuron_id,
    row_number() over (partition by split_id, neuron_id order by (value, -image_id) desc) as rank,
    image_id,
    value
from candidates
qualify row_number() over (partition by split_id, neuron_id order by (value, -image_id) desc) <= 256
