-- A row is an edit that does not scale each neuron of its layer exactly once, or scales others.

with

edited as (

    select edits.edit_id, min(neurons.layer_id) as layer_id, max(neurons.layer_id) as last_layer_id
    from edits
    inner join edit_scales on edits.edit_id = edit_scales.edit_id
    inner join neurons on edit_scales.neuron_id = neurons.neuron_id
    group by edits.edit_id

),

wanted as (

    select layer_id, count(*) as neurons
    from neurons
    group by layer_id

),

scaled as (

    select edit_id, count(*) as scales, count(distinct neuron_id) as neurons
    from edit_scales
    group by edit_id

)

select
    edits.edit_id,
    edits.layer,
    layers.layer as scaled_layer,
    wanted.neurons as neurons_of_layer,
    coalesce(scaled.neurons, 0) as neurons_scaled,
    coalesce(scaled.scales, 0) as scales
from edits
left join edited on edits.edit_id = edited.edit_id
left join layers on edited.layer_id = layers.layer_id
left join wanted on edited.layer_id = wanted.layer_id
left join scaled on edits.edit_id = scaled.edit_id
where
    edited.layer_id is distinct from edited.last_layer_id
    or layers.layer is distinct from edits.layer
    or layers.network_id is distinct from edits.network_id
    or scaled.scales is distinct from wanted.neurons
    or scaled.neurons is distinct from wanted.neurons
