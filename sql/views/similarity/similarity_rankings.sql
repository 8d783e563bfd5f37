-- Every concept of every live neuron, best first.
-- grain: network, layer, unit, rank, dissection_id

select
    named_neurons.network,
    named_neurons.layer,
    named_neurons.unit,
    row_number() over (
        partition by soft_wpmi.neuron_id
        order by soft_wpmi.similarity desc, concepts.position
    ) as rank,
    concepts.concept,
    soft_wpmi.similarity,
    soft_wpmi.dissection_id
from shown_dissection
inner join soft_wpmi on shown_dissection.dissection_id = soft_wpmi.dissection_id
inner join named_neurons on soft_wpmi.neuron_id = named_neurons.neuron_id
inner join concepts on soft_wpmi.concept_id = concepts.concept_id
