-- The recorded layers of a dissection whose null and label checks are missing or out of date.
-- grain: dissection_id, layer_id
--
-- extract computes what is missing. A layer has a row if a run was stopped before it was labelled, if another study
-- has recorded it since, or if other neurons get a label or share a null than when it was labelled.
-- A layer that was labelled has no row while dissected_neurons has no row of it: that view is then not built, and
-- whether other neurons get a label is unknown.
-- A null that an earlier version drew wrongly is drawn again, once: that of pearson. Its version, 1, is part of
-- null_groups (null_version in extract/scoring/scorers.py); that of the other scorers is 0. Earlier versions also
-- counted each image of a group, so 2 is added if two probing images are of one group.

with

grouped_splits as (

    select distinct images.split_id
    from images
    inner join image_attributes on images.image_id = image_attributes.image_id
    where image_attributes.attribute = 'group' and images.defect is null
    group by images.split_id, image_attributes.value
    having count(*) > 1

),

labelled_neurons as (

    -- 0 and 0 for a layer without a neuron that takes a label.
    select
        dissected_neurons.dissection_id,
        dissected_neurons.layer_id,
        count(*) filter (where not dissected_neurons.dead and not dissected_neurons.sparse) as neurons,
        coalesce(
            sum(distinct case
                when not dissected_neurons.dead and not dissected_neurons.sparse then dissected_neurons.null_group
            end)
            + max(case when dissections.scorer = 'pearson' then 1 else 0 end)
            + max(case when grouped_splits.split_id is null then 0 else 2 end),
            0
        ) as null_groups
    from dissected_neurons
    inner join dissections on dissected_neurons.dissection_id = dissections.dissection_id
    left join grouped_splits on dissections.split_id = grouped_splits.split_id
    group by dissected_neurons.dissection_id, dissected_neurons.layer_id

)

select distinct
    dissections.dissection_id,
    layers.layer_id
from dissections
inner join layers on dissections.network_id = layers.network_id
inner join finished_extractions
    on
        layers.layer_id = finished_extractions.layer_id
        and dissections.split_id = finished_extractions.split_id
left join labelled_layers
    on
        dissections.dissection_id = labelled_layers.dissection_id
        and layers.layer_id = labelled_layers.layer_id
left join labelled_neurons
    on
        dissections.dissection_id = labelled_neurons.dissection_id
        and layers.layer_id = labelled_neurons.layer_id
where
    finished_extractions.target = 'activations'
    and (
        labelled_layers.layer_id is null
        or labelled_layers.neurons <> labelled_neurons.neurons
        or labelled_layers.null_groups <> labelled_neurons.null_groups
    )
