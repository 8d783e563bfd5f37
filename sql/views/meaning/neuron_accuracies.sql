-- The share of each neuron's top images whose true class is a class of its label.
-- grain: network, layer, unit, dissection_id
-- public
--
-- NULL if the label is not mapped to a class of the images, or if the images have no classes.

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
