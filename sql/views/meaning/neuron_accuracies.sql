-- Of each neuron's best images, the share whose true class is one that its label stands for.
-- grain: network, layer, unit, dissection_id
-- public
--
-- NULL where the label stands for no class of the images, or the images have none.

select
    named_neurons.network,
    named_neurons.layer,
    named_neurons.unit,
    concepts.concept,
    judged_neurons.accuracy,
    judged_neurons.lift,
    judged_neurons.dissection_id
from shown_dissection
inner join judged_neurons on shown_dissection.dissection_id = judged_neurons.dissection_id
inner join named_neurons on judged_neurons.neuron_id = named_neurons.neuron_id
inner join concepts on judged_neurons.concept_id = concepts.concept_id
