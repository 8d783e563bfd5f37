-- The layers that an edit could scale, those with the most interpretable neurons first.
-- grain: dissection_id, layer_id
--
-- Only layers with weights have a row.

with

candidates as (

    select
        neuron_labels.dissection_id,
        neuron_labels.layer_id,
        named_neurons.layer,
        named_neurons.position,
        count(*) filter (where neuron_labels.interpretable) as num_interpretable
    from neuron_labels
    inner join named_neurons on neuron_labels.neuron_id = named_neurons.neuron_id
    where named_neurons.weight_l1 is not null
    group by
        neuron_labels.dissection_id,
        neuron_labels.layer_id,
        named_neurons.layer,
        named_neurons.position

)

select
    dissection_id,
    layer_id,
    layer,
    num_interpretable,
    row_number() over (partition by dissection_id order by num_interpretable desc, position desc, layer) as rank
from candidates
