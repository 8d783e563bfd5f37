-- A row is a neuron with too many or too few top images of its blocks, or whose highest activation is not among them.
--
-- A block with sums has 256 top images, or all of its images if it has fewer. A block without sums has none.
-- cheap: no

with

tops as (

    select
        images.split_id,
        block_tops.neuron_id,
        count(*) as images,
        max(block_tops.value) as highest
    from block_tops
    inner join images on block_tops.image_id = images.image_id
    where images.defect is null
    group by images.split_id, block_tops.neuron_id

),

sums as (

    select
        split_id,
        neuron_id,
        nd_total(least(images, 256)) as images,
        max(highest) as highest
    from block_sums
    group by split_id, neuron_id

)

select
    coalesce(tops.split_id, sums.split_id) as split_id,
    coalesce(tops.neuron_id, sums.neuron_id) as neuron_id,
    tops.images as images_found,
    sums.images as images_expected,
    tops.highest as highest_found,
    sums.highest as highest_expected
from tops
full join sums
    on
        tops.split_id = sums.split_id
        and tops.neuron_id = sums.neuron_id
where
    tops.images is distinct from sums.images
    or tops.highest is distinct from sums.highest
