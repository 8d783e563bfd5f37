-- A row is a neuron and a block whose sums are missing, are not in the ledger, or are over another number of images.
--
-- Views read the sums instead of the activations: a block without sums would be missing from them.

with

expected as (

    select
        extractions.split_id,
        neurons.neuron_id,
        extraction_blocks.block,
        extraction_blocks.images
    from extractions
    inner join extraction_blocks on extractions.extraction_id = extraction_blocks.extraction_id
    inner join neurons on extractions.layer_id = neurons.layer_id
    where extractions.target = 'activations'

)

select
    coalesce(block_sums.split_id, expected.split_id) as split_id,
    coalesce(block_sums.neuron_id, expected.neuron_id) as neuron_id,
    coalesce(block_sums.block, expected.block) as block,
    block_sums.images,
    expected.images as images_expected
from block_sums
full join expected
    on
        block_sums.split_id = expected.split_id
        and block_sums.neuron_id = expected.neuron_id
        and block_sums.block = expected.block
where expected.images is distinct from block_sums.images
