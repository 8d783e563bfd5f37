-- A row is a prediction whose class is not one of those with the highest probability.

select
    predictions.network_id,
    predictions.image_id,
    predictions.class,
    networks.classes
from predictions
inner join networks on predictions.network_id = networks.network_id
where
    not coalesce(
        predictions.probabilities[list_position(networks.classes, predictions.class)]
        >= list_max(predictions.probabilities) - cast(0.00001 as double),
        false
    )
