-- A row is a neuron with sums over a block that is not in the ledger, or whose number of images differs there.

with

covered as (

    select
        extractions.layer_id,
        extractions.split_id,
        extraction_blocks.block,
        extraction_blocks.images
    from extractions
    inner join extraction_blocks on extractions.extraction_id = extraction_blocks.extraction_id
    where extractions.target = 'activations'

)

select
    block_sums.split_id,
    block_sums.neuron_id,
    block_sums.block,
    block_sums.images,
    covered.images as images_expected
from block_sums
left join neurons on block_sums.neuron_id = neurons.neuron_id
left join covered
    on
        neurons.layer_id = covered.layer_id
        and block_sums.split_id = covered.split_id
        and block_sums.block = covered.block
where covered.images is distinct from block_sums.images
