-- How often each network is right, per split, over the images whose class is one of its outputs.
-- grain: network_id, split_id
--
-- num_unknown: the other images, which have no class or one that is no output. Where there are only such, it is not
-- known how many are right.

select
    network,
    split,
    count(is_correct) as images,
    case when count(is_correct) > 0 then count(*) filter (where is_correct) end as correct,
    count(*) filter (where is_correct) / nullif(count(is_correct), 0) as accuracy,
    avg(loss) as loss,
    count(*) - count(is_correct) as num_unknown,
    network_id,
    split_id
from image_predictions
group by network, split, network_id, split_id
