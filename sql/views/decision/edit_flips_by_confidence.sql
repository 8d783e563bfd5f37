-- The confidence of the network in the images whose class an edit changed, in steps of a tenth.
-- grain: edit_id, split_id, confidence
-- public
--
-- The product of confidence and ten stays a float on every engine: in double precision a confidence of 0.7 would give
-- less than 7.

select
    edit_id,
    split,
    least(floor(cast(confidence_before * 10 as float)), 9) / 10 as confidence,
    count(*) as flips,
    count(*) filter (where kind = 'gained') as gained,
    count(*) filter (where kind = 'lost') as lost,
    split_id,
    dissection_id
from edit_flips
group by edit_id, split, confidence, split_id, dissection_id
