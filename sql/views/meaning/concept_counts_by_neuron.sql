-- How many of a layer's correct neurons have each concept as their label.
-- grain: network, layer, concept, dissection_id
-- public
--
-- A neuron is correct if more than half of its top images belong to a class of its label. So only concepts that stand
-- for a class have rows; for all labels, count the rows of neuron_concepts.

with

right_neurons as (

    select
        named_neurons.network,
        named_neurons.layer,
        concepts.concept,
        judged_neurons.dissection_id
    from shown_dissection
    inner join judged_neurons on shown_dissection.dissection_id = judged_neurons.dissection_id
    inner join named_neurons on judged_neurons.neuron_id = named_neurons.neuron_id
    inner join concepts on judged_neurons.concept_id = concepts.concept_id
    where judged_neurons.accuracy > cast(0.5 as double)

),

counted as (

    select network, layer, concept, dissection_id, count(*) as neurons
    from right_neurons
    group by network, layer, concept, dissection_id

)

select
    network,
    layer,
    concept,
    neurons,
    neurons / sum(neurons) over (partition by network, layer, dissection_id) as share,
    dissection_id
from counted
