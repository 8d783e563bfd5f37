-- A row is a layer whose summary does not add up to its neurons, or that has a share outside of 0 to 1.

with

counted as (

    select dissection_id, layer_id, count(*) as neurons
    from dissected_neurons
    group by dissection_id, layer_id

),

named as (

    select
        counted.dissection_id,
        networks.name as network,
        named_layers.layer,
        named_layers.position,
        counted.neurons
    from counted
    inner join named_layers on counted.layer_id = named_layers.layer_id
    inner join networks on named_layers.network_id = networks.network_id

)

select
    layer_summary.network,
    layer_summary.layer,
    layer_summary.neurons,
    layer_summary.num_interpretable,
    layer_summary.num_uninterpretable,
    layer_summary.num_dead,
    layer_summary.num_sparse,
    layer_summary.num_tied,
    named.neurons as neurons_of_layer
from layer_summary
left join named
    on
        layer_summary.dissection_id = named.dissection_id
        and layer_summary.network = named.network
        and layer_summary.layer = named.layer
        and layer_summary.position = named.position
where
    layer_summary.neurons is distinct from named.neurons
    or layer_summary.num_interpretable + layer_summary.num_uninterpretable <> layer_summary.neurons
    or (layer_summary.num_interpretable is null) <> (layer_summary.num_uninterpretable is null)
    or layer_summary.num_dead + layer_summary.num_sparse + layer_summary.num_tied > layer_summary.num_uninterpretable
    or layer_summary.overall_accuracy not between 0 and 1
