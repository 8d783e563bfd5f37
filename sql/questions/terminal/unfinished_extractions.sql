-- Which extractions were stopped, and how many images did each finish?
-- grain: extraction_id

select
    extractions.target,
    extractions.extraction_id,
    splits.split,
    nd_total(extraction_blocks.images) as images
from extractions
inner join splits on extractions.split_id = splits.split_id
left join extraction_blocks on extractions.extraction_id = extraction_blocks.extraction_id
where extractions.extraction_id not in (select extraction_id from finished_extractions)
group by extractions.target, extractions.extraction_id, splits.split
order by extractions.extraction_id
