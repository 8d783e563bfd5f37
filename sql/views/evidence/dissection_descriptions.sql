-- What a report says of a dissection: dissection_summary, and what its network and its labels were made with.
-- grain: dissection_id
--
-- Files are named without their folders, because a report is sent to other people. parent: the network that this one
-- was made of by an edit.

select
    dissection_summary.network,
    dissection_summary.dataset,
    dissection_summary.probing_split,
    dissection_summary.images,
    dissection_summary.images_left_out,
    dissection_summary.clip,
    regexp_replace(dissection_summary.clip_weights, '^.*[/\\]', '') as clip_weights,
    dissection_summary.concept_set,
    dissection_summary.concepts,
    dissection_summary.scorer,
    dissection_summary.engine,
    dissection_summary.top_k,
    dissection_summary.rule,
    dissection_summary.tau,
    dissection_summary.q_limit,
    dissection_summary.created_at,
    regexp_replace(networks.architecture, '^.*[/\\]', '') as architecture,
    regexp_replace(networks.weights, '^.*[/\\]', '') as weights,
    parents.name as parent,
    dissections.accuracy_images,
    dissections.images_neurons,
    dissections.bootstraps,
    dissection_summary.network_id,
    dissection_summary.dissection_id
from dissection_summary
inner join dissections on dissection_summary.dissection_id = dissections.dissection_id
inner join networks on dissection_summary.network_id = networks.network_id
left join networks as parents on networks.parent_network_id = parents.network_id
