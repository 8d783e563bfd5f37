-- The recorded layers of a dissection whose null and label checks are missing or out of date.
-- grain: dissection_id, layer_id
--
-- extract computes what is missing. A layer has a row if a run was stopped before it was labelled, if another study
-- has recorded it since, or if other neurons get a label or share a null than when it was labelled.
-- A null that an earlier version drew wrongly is drawn again, once: that of pearson. Its version, 1, is part of
-- null_groups (null_version in extract/scoring/scorers.py); that of the other scorers is 0.

with

live_neurons as (

    select
        dissected_neurons.dissection_id,
        dissected_neurons.layer_id,
        count(*) as neurons,
        sum(distinct dissected_neurons.null_group)
        + max(case when dissections.scorer = 'pearson' then 1 else 0 end) as null_groups
    from dissected_neurons
    inner join dissections on dissected_neurons.dissection_id = dissections.dissection_id
    where not dissected_neurons.dead and not dissected_neurons.sparse
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
left join live_neurons
    on
        dissections.dissection_id = live_neurons.dissection_id
        and layers.layer_id = live_neurons.layer_id
where
    finished_extractions.target = 'activations'
    and (
        labelled_layers.layer_id is null
        or labelled_layers.neurons <> coalesce(live_neurons.neurons, 0)
        or labelled_layers.null_groups <> coalesce(live_neurons.null_groups, 0)
    )
