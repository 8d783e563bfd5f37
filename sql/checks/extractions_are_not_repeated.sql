-- A row is a result that was computed over a split more than once, so that its rows are stored more than once.

select
    target,
    split_id,
    network_id,
    layer_id,
    clip_id,
    count(*) as extractions
from extractions
where extraction_id in (select extraction_id from extraction_blocks)
group by target, split_id, network_id, layer_id, clip_id
having count(*) > 1
