-- The place of each neuron of the shown dissection in the gallery, from 1: the strongest labels come first.
-- grain: dissection_id, neuron_id
--
-- Within a layer, calibrated labels come first, then those with the highest z, then those with the highest similarity.
-- Layers take turns, later layers first, so that every layer is among the first places. Dead and sparse neurons of all
-- layers come last.

with

placed as (

    select
        named_neurons.layer,
        named_neurons.unit,
        named_neurons.position,
        neuron_labels.dead,
        neuron_labels.sparse,
        neuron_labels.neuron_id,
        neuron_labels.dissection_id,
        row_number() over (
            partition by named_neurons.layer
            order by
                neuron_labels.dead, neuron_labels.sparse, neuron_labels.calibrated desc,
                neuron_labels.z desc nulls last,
                neuron_labels.similarity desc nulls last, named_neurons.unit
        ) as place_in_layer
    from shown_dissection
    inner join neuron_labels on shown_dissection.dissection_id = neuron_labels.dissection_id
    inner join named_neurons on neuron_labels.neuron_id = named_neurons.neuron_id

)

select
    layer,
    unit,
    row_number() over (order by dead, sparse, place_in_layer, position desc, layer) as place,
    neuron_id,
    dissection_id
from placed
