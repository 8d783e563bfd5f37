-- Which of two methods describes the neurons of a layer better, on those that both label, and is that beyond chance?
-- grain: rival_id, other_rival_id, layer

with

shown_images as (

    -- Older sets of images, from before some were added or removed, are other datasets.
    select dissections.network_id, dissections.clip_id, splits.dataset_id, dissections.split_id
    from shown_dissection
    inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
    inner join splits on dissections.split_id = splits.split_id

)

select
    rival_differences.layer, rival_differences.dataset, rival_differences.split,
    rival_differences.method, rival_differences.other_method,
    rival_differences.neurons, rival_differences.difference, rival_differences.low, rival_differences.high,
    rival_differences.beyond, rival_differences.rival_id, rival_differences.other_rival_id
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
    and rival_differences.other_control = 'none'
    and rival_differences.measure = 'pearson'
    and rival_differences.reference = 'clip'
order by
    rival_differences.position, rival_differences.layer, rival_differences.split,
    rival_differences.rival_id, rival_differences.other_rival_id
