-- A row is an extraction, or an edit on a split, whose blocks are not 0, 1, 2, …, are repeated, or are empty.

with

blocks as (

    select extraction_id, null as edit_id, null as split_id, block, images
    from extraction_blocks
    union all
    select null as extraction_id, edit_id, split_id, block, images
    from edit_blocks

)

select
    extraction_id,
    edit_id,
    split_id,
    count(*) as blocks,
    count(distinct block) as different_blocks,
    min(block) as first_block,
    max(block) as last_block,
    min(images) as smallest_block
from blocks
group by extraction_id, edit_id, split_id
having count(*) <> count(distinct block) or min(block) <> 0 or max(block) <> count(*) - 1 or min(images) < 1
