-- How well do the labels of each method describe the neurons of each layer? At most 3,000 rows.
-- grain: rival_id, layer, reference

select
    rival_summary.layer, rival_summary.method, rival_summary.control, rival_summary.reference, rival_summary.neurons,
    rival_summary.measured, rival_summary.labels, rival_summary.most_sharing, rival_summary.share_believed,
    rival_summary.pearson, rival_summary.pearson_low, rival_summary.pearson_high,
    rival_summary.ap, rival_summary.ap_corrected, rival_summary.ap_corrected_low, rival_summary.ap_corrected_high,
    rival_summary.f1, rival_summary.f1_low, rival_summary.f1_high, rival_summary.iou,
    rival_summary.auc, rival_summary.auc_low, rival_summary.auc_high,
    rival_summary.outputs, rival_summary.names_output, rival_summary.output_similarity,
    rival_summary.network, rival_summary.clip, rival_summary.dataset, rival_summary.split,
    rivals.dissection_id is not null and dissections.split_id = rivals.split_id as chosen_here,
    rival_summary.position, rival_summary.rival_id
from rival_summary
inner join rivals on rival_summary.rival_id = rivals.rival_id
inner join dissections
    on
        rivals.network_id = dissections.network_id
        and rivals.split_id = dissections.split_id
        and rivals.clip_id = dissections.clip_id
inner join shown_dissection on dissections.dissection_id = shown_dissection.dissection_id
order by
    rival_summary.position, rival_summary.layer, rival_summary.reference desc,
    rival_summary.control = 'none' desc, rival_summary.pearson desc nulls last, rival_summary.method, rival_summary.control
limit 3000
