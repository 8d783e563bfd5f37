-- How often is each network right, on each split?
-- grain: network, dataset, split

select network, dataset, split, images, num_unknown, correct, accuracy, loss
from network_accuracies
order by network_id, split_id
