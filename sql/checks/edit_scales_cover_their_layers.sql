-- A row is a layer of another network, a layer that the edit does not name, or a layer whose neurons the edit does not
-- scale exactly once each. A row without a layer is an edit that scales nothing.

with

wanted as (

    select edit_layers.edit_id, edit_layers.layer_id, count(neurons.neuron_id) as neurons
    from edit_layers
    left join neurons on edit_layers.layer_id = neurons.layer_id
    group by edit_layers.edit_id, edit_layers.layer_id

),

scaled as (

    select
        edit_scales.edit_id,
        neurons.layer_id,
        count(*) as scales,
        count(distinct edit_scales.neuron_id) as neurons
    from edit_scales
    inner join neurons on edit_scales.neuron_id = neurons.neuron_id
    group by edit_scales.edit_id, neurons.layer_id

),

compared as (

    select
        coalesce(wanted.edit_id, scaled.edit_id) as edit_id,
        coalesce(wanted.layer_id, scaled.layer_id) as layer_id,
        coalesce(wanted.neurons, 0) as neurons_of_layer,
        coalesce(scaled.neurons, 0) as neurons_scaled,
        coalesce(scaled.scales, 0) as scales
    from wanted
    full join scaled
        on
            wanted.edit_id = scaled.edit_id
            and wanted.layer_id = scaled.layer_id

)

select
    edits.edit_id,
    edits.layer as layers_of_edit,
    layers.layer,
    compared.neurons_of_layer,
    compared.neurons_scaled,
    compared.scales
from edits
left join compared on edits.edit_id = compared.edit_id
left join layers on compared.layer_id = layers.layer_id
where
    compared.layer_id is null
    or layers.network_id <> edits.network_id
    or not list_contains(string_split(edits.layer, ', '), layers.layer)
    or compared.neurons_scaled <> compared.neurons_of_layer
    or compared.scales <> compared.neurons_of_layer
