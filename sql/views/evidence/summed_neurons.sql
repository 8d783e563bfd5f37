-- The neurons that have sums for every block of a probing set, so that their activations need not be read.
-- grain: split_id, neuron_id
-- materialized: table

with

sound_images as (

    select split_id, count(*) as images
    from images
    where defect is null
    group by split_id

)

select block_sums.split_id, block_sums.neuron_id
from block_sums
inner join sound_images on block_sums.split_id = sound_images.split_id
group by block_sums.split_id, block_sums.neuron_id, sound_images.images
having sum(block_sums.images) = sound_images.images
