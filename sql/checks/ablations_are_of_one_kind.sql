-- A row is an ablation that is not of exactly one neuron, one concept or a set of random neurons, that is of a layer
-- of another network, or that is of several neurons without the dissection whose labels it used.

select
    ablations.ablation_id,
    ablations.neuron_id,
    ablations.concept_id,
    ablations.draw,
    ablations.dissection_id,
    ablations.neurons
from ablations
left join layers on ablations.layer_id = layers.layer_id
left join neurons on ablations.neuron_id = neurons.neuron_id
where
    cast(ablations.neuron_id is not null as integer)
    + cast(ablations.concept_id is not null as integer)
    + cast(ablations.draw is not null as integer) <> 1
    or (ablations.neuron_id is null) <> (ablations.dissection_id is not null)
    or ablations.neuron_id is not null and ablations.neurons <> 1
    or ablations.neurons < 1
    or neurons.layer_id <> ablations.layer_id
    or layers.network_id <> ablations.network_id
