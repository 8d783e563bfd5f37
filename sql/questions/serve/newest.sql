-- Which is the newest dissection that has labels? A job that has begun another one has not labelled it yet.
-- grain: dissection_id

select max(neuron_labels.dissection_id) as dissection_id
from neuron_labels
inner join dissections on neuron_labels.dissection_id = dissections.dissection_id
where dissections.network_id not in (select network_id from control_networks)
