-- How often is each trained network right, on each split? The shown network comes first.
-- grain: network, dataset, split
--
-- Edited networks are left out, because they have a section of their own. The shown network is never left out.

select
    network_accuracies.network,
    network_accuracies.dataset,
    network_accuracies.split,
    network_accuracies.images,
    network_accuracies.correct,
    network_accuracies.accuracy,
    network_accuracies.loss,
    network_accuracies.num_unknown,
    network_accuracies.network_id = dissections.network_id as is_shown_network,
    network_accuracies.split_id = dissections.split_id as is_probing_set
from shown_dissection
inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
cross join network_accuracies
inner join networks on network_accuracies.network_id = networks.network_id
where networks.parent_network_id is null or network_accuracies.network_id = dissections.network_id
order by is_shown_network desc, network_accuracies.network, network_accuracies.split_id
limit 50
