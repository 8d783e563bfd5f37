-- A row is a prediction whose probabilities do not sum to one, or lie outside of 0 to 1.

select network_id, image_id, list_sum(probabilities) as total
from predictions
where
    not coalesce(abs(list_sum(probabilities) - 1) <= cast(0.001 as double), false)
    or list_min(probabilities) < 0
