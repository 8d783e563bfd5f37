-- What does each network take an image for?
-- grain: network_id
-- parameters: image

select network, split, true_class, predicted_class, is_correct, confidence, loss, network_id
from image_predictions
where image_id = $image
order by network_id
limit 100
