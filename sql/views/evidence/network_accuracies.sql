-- How often each network is right on each split, over the images whose class is one of its outputs.
-- grain: network_id, split_id
-- public
--
-- num_unknown: the images that have no class, or one that is not an output. If all images are of this kind, correct
-- and accuracy are NULL.

select
    image_predictions.network,
    image_predictions.split,
    count(image_predictions.is_correct) as images,
    case
        when count(image_predictions.is_correct) > 0 then count(*) filter (where image_predictions.is_correct)
    end as correct,
    count(*) filter (where image_predictions.is_correct) / nullif(count(image_predictions.is_correct), 0) as accuracy,
    avg(image_predictions.loss) as loss,
    count(*) - count(image_predictions.is_correct) as num_unknown,
    named_datasets.dataset,
    image_predictions.network_id,
    image_predictions.split_id
from image_predictions
inner join splits on image_predictions.split_id = splits.split_id
inner join named_datasets on splits.dataset_id = named_datasets.dataset_id
group by
    image_predictions.network,
    named_datasets.dataset,
    image_predictions.split,
    image_predictions.network_id,
    image_predictions.split_id
