-- The prediction of each network for each image, beside the true class.
-- grain: network_id, image_id
--
-- is_correct: NULL if the image has no class, or if its class is not an output of the network.

select
    networks.name as network,
    splits.split,
    predictions.image_id,
    images.class as true_class,
    predictions.class as predicted_class,
    case when network_outputs.class is not null then predictions.class = images.class end as is_correct,
    predictions.confidence,
    predictions.loss,
    predictions.network_id,
    images.split_id
from predictions
inner join networks on predictions.network_id = networks.network_id
inner join images on predictions.image_id = images.image_id
inner join splits on images.split_id = splits.split_id
left join network_outputs
    on
        predictions.network_id = network_outputs.network_id
        and images.class = network_outputs.class
