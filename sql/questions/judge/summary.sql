-- How well do the labels of each method describe the neurons of each layer, beside its controls? At most 3,000 rows.
-- grain: rival_id, layer, reference

with

controls as (

    -- By ids: two networks may have one name.
    select
        rivals.network_id, rivals.clip_id, rivals.split_id, rivals.method,
        rival_summary.layer, rival_summary.reference,
        max(rival_summary.pearson) filter (where rivals.control = 'random') as random_pearson,
        max(rival_summary.pearson) filter (where rivals.control = 'shuffled') as shuffled_pearson
    from rival_summary
    inner join rivals on rival_summary.rival_id = rivals.rival_id
    where rivals.control <> 'none'
    group by
        rivals.network_id, rivals.clip_id, rivals.split_id, rivals.method, rival_summary.layer, rival_summary.reference

)

select
    own.layer, own.method, own.reference, own.neurons, own.measured, own.labels, own.most_sharing, own.share_believed,
    own.pearson, own.pearson_low, own.pearson_high, controls.random_pearson, controls.shuffled_pearson,
    own.ap, own.ap_corrected, own.ap_corrected_low, own.ap_corrected_high,
    own.f1, own.f1_low, own.f1_high, own.iou, own.auc, own.auc_low, own.auc_high,
    own.outputs, own.names_output, own.output_similarity,
    own.network, own.clip, own.dataset, own.split,
    own.dissection_id is not null and rivals.split_id = dissections.split_id as chosen_here,
    own.position, own.rival_id
from rival_summary as own
inner join rivals on own.rival_id = rivals.rival_id
inner join dissections
    on
        rivals.network_id = dissections.network_id
        and rivals.clip_id = dissections.clip_id
inner join shown_dissection on dissections.dissection_id = shown_dissection.dissection_id
left join controls
    on
        rivals.network_id = controls.network_id
        and rivals.clip_id = controls.clip_id
        and rivals.split_id = controls.split_id
        and rivals.method = controls.method
        and own.layer = controls.layer
        and own.reference = controls.reference
where own.control = 'none'
order by own.position, own.layer, own.dataset, own.split, own.reference desc, own.pearson desc nulls last, own.method
limit 3000
