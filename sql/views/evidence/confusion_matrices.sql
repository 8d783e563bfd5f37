-- What each network takes the images of a class for.
-- grain: network_id, split_id, true_class, predicted_class
-- public
--
-- share is of the images with that true class. Pairs that never occur have no row. is_correct: NULL where the true class
-- is no output of the network, so that no answer could be right.

select
    network,
    split,
    true_class,
    predicted_class,
    count(*) as images,
    count(*) / sum(count(*)) over (partition by network_id, split_id, true_class) as share,
    is_correct,
    network_id,
    split_id
from image_predictions
where true_class is not null
group by network, split, true_class, predicted_class, is_correct, network_id, split_id
