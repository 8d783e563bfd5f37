-- What each network says of each image, beside the truth.
-- grain: network_id, image_id

select
    networks.name as network,
    splits.split,
    predictions.image_id,
    images.class as true_class,
    predictions.class as predicted_class,
    coalesce(predictions.class = images.class, false) as is_correct,
    predictions.confidence,
    predictions.loss,
    predictions.network_id,
    images.split_id
from predictions
inner join networks on predictions.network_id = networks.network_id
inner join images on predictions.image_id = images.image_id
inner join splits on images.split_id = splits.split_id
