-- How often is each network right on each split?
-- grain: network, dataset, split

select *
from network_accuracies
order by network, dataset, split
limit 200
