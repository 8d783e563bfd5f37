-- How well do the labels of each method describe the neurons of each layer, beside its controls? At most 3,000 rows.
-- grain: rival_id, layer, reference

with

shown_images as (

    -- Older sets of images, from before some were added or removed, are other datasets.
    select dissections.network_id, dissections.clip_id, splits.dataset_id, dissections.split_id
    from shown_dissection
    inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
    inner join splits on dissections.split_id = splits.split_id

),

classed as (

    -- q shuffles images within their classes, if each image has one.
    select split_id, count(*) = count(class) as within_classes
    from images
    where defect is null
    group by split_id

),

controls as (

    -- By ids: two networks may have one name.
    select
        rivals.network_id, rivals.clip_id, rivals.split_id, rivals.method,
        rival_summary.layer, rival_summary.reference,
        max(rival_summary.pearson) filter (where rivals.control = 'random') as random_pearson,
        max(rival_summary.pearson) filter (where rivals.control = 'shuffled') as shuffled_pearson,
        max(rival_summary.share_believed) filter (where rivals.control = 'random') as random_believed
    from rival_summary
    inner join rivals on rival_summary.rival_id = rivals.rival_id
    where rivals.control <> 'none'
    group by
        rivals.network_id, rivals.clip_id, rivals.split_id, rivals.method, rival_summary.layer, rival_summary.reference

)

select
    own.layer, own.method, own.reference, own.neurons, own.measured, own.labels, own.most_sharing, own.share_believed,
    controls.random_believed,
    own.pearson, own.pearson_low, own.pearson_high, controls.random_pearson, controls.shuffled_pearson,
    own.ap, own.ap_corrected, own.ap_corrected_low, own.ap_corrected_high,
    own.f1, own.f1_low, own.f1_high, own.iou, own.auc, own.auc_low, own.auc_high,
    own.outputs, own.names_output, own.output_similarity,
    own.network, own.clip, own.dataset, own.split,
    own.dissection_id is not null and rivals.split_id = shown_images.split_id as chosen_here,
    coalesce(classed.within_classes, false) as within_classes,
    own.dissection_id is not null as of_study, own.position, own.rival_id
from rival_summary as own
inner join rivals on own.rival_id = rivals.rival_id
inner join splits on rivals.split_id = splits.split_id
inner join shown_images
    on
        rivals.network_id = shown_images.network_id
        and rivals.clip_id = shown_images.clip_id
        and splits.dataset_id = shown_images.dataset_id
left join classed on rivals.split_id = classed.split_id
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
