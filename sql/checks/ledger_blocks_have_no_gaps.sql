-- A row is an extraction whose blocks are not 0, 1, 2, … each once, or have a block without images.

select
    extraction_id,
    count(*) as blocks,
    count(distinct block) as different_blocks,
    min(block) as first_block,
    max(block) as last_block,
    min(images) as smallest_block
from extraction_blocks
group by extraction_id
having count(*) <> count(distinct block) or min(block) <> 0 or max(block) <> count(*) - 1 or min(images) < 1
