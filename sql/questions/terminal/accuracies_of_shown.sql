-- How often is the dissected network right, on each split of the dataset that was probed?
-- grain: split

select
    network_accuracies.split,
    network_accuracies.images,
    network_accuracies.num_unknown,
    network_accuracies.correct,
    network_accuracies.accuracy
from shown_dissection
inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
inner join splits as probed on dissections.split_id = probed.split_id
inner join network_accuracies on dissections.network_id = network_accuracies.network_id
inner join splits
    on network_accuracies.split_id = splits.split_id and probed.dataset_id = splits.dataset_id
order by network_accuracies.split_id
