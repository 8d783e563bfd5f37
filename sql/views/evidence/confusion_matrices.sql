-- For each network and true class, how often the network predicts each class.
-- grain: network_id, split_id, true_class, predicted_class
-- public
--
-- share: of the images with this true class. A pair of classes that never occurs has no row.
-- is_correct: NULL if the true class is not an output of the network, because then no prediction can be right.

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
