-- How often each network is right, per split; images without a true class do not count.
-- grain: network_id, split_id

select
    network,
    split,
    count(*) as images,
    count(*) filter (where is_correct) as correct,
    count(*) filter (where is_correct) / count(*) as accuracy,
    avg(loss) as loss,
    network_id,
    split_id
from image_predictions
where true_class is not null
group by network, split, network_id, split_id
