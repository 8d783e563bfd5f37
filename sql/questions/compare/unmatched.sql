-- How many neurons of each layer are in only one of the two dissections?
-- grain: side, layer
-- parameters: a, b

with

counted as (

    select
        neuron_labels.dissection_id,
        named_neurons.layer,
        count(*) as neurons,
        min(named_neurons.position) as position
    from neuron_labels
    inner join named_neurons on neuron_labels.neuron_id = named_neurons.neuron_id
    where neuron_labels.dissection_id in ($a, $b)
    group by neuron_labels.dissection_id, named_neurons.layer

)

select
    case when counted.dissection_id = $a then 'A' else 'B' end as side,
    counted.layer,
    counted.neurons - coalesce(layer_changes.neurons, 0) as neurons
from counted
left join layer_changes
    on
        counted.layer = layer_changes.layer
        and layer_changes.dissection_id = $a
        and layer_changes.other_dissection_id = $b
where counted.neurons > coalesce(layer_changes.neurons, 0)
order by side, counted.position, counted.layer
limit 2000
