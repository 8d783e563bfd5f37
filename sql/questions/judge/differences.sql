-- Which methods describe the neurons of a layer better than others, and by how much? At most 3,000 rows.
-- grain: rival_id, other_rival_id, layer, reference, measure

with

shown_images as (

    -- Older sets of images, from before some were added or removed, are other datasets.
    select dissections.network_id, dissections.clip_id, splits.dataset_id, dissections.split_id
    from shown_dissection
    inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
    inner join splits on dissections.split_id = splits.split_id

)

select
    rival_differences.layer, rival_differences.reference, rival_differences.measure,
    rival_differences.method, rival_differences.control,
    rival_differences.other_method, rival_differences.other_control,
    rival_differences.neurons, rival_differences.difference, rival_differences.low, rival_differences.high,
    rival_differences.beyond, rival_differences.dataset, rival_differences.split,
    rival_differences.position, rival_differences.rival_id, rival_differences.other_rival_id
from rival_differences
inner join rivals on rival_differences.rival_id = rivals.rival_id
inner join splits on rivals.split_id = splits.split_id
inner join shown_images
    on
        rivals.network_id = shown_images.network_id
        and rivals.clip_id = shown_images.clip_id
        and splits.dataset_id = shown_images.dataset_id
where
    rival_differences.control = 'none'
    and rival_differences.measure in ('pearson', 'ap_corrected', 'f1', 'auc', 'names_output')
    and (rival_differences.other_control <> 'none' or rival_differences.difference > 0)
order by
    rival_differences.position, rival_differences.layer, rival_differences.dataset, rival_differences.split,
    rival_differences.reference desc, rival_differences.measure,
    rival_differences.other_control = 'none' desc, rival_differences.difference desc,
    rival_differences.method, rival_differences.other_method, rival_differences.other_control
limit 3000
