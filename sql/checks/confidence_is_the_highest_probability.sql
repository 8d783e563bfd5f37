-- A row is a prediction whose confidence is not the highest of its probabilities.

select network_id, image_id, confidence, list_max(probabilities) as highest
from predictions
where not coalesce(abs(confidence - list_max(probabilities)) <= cast(0.00001 as double), false)
