-- What is the label of one neuron, and how sure is it?
-- grain: layer, unit
-- parameters: module, unit

select
    neuron_concepts.*,
    neuron_order.place,
    neuron_order.neuron_id,
    robust_labels.tests,
    neuron_words.words,
    neuron_words.reach,
    neuron_words.explained,
    neuron_words.explainable,
    neuron_accuracies.accuracy
from neuron_concepts
inner join neuron_order
    on neuron_concepts.layer = neuron_order.layer and neuron_concepts.unit = neuron_order.unit
left join robust_labels
    on neuron_concepts.layer = robust_labels.layer and neuron_concepts.unit = robust_labels.unit
left join neuron_words
    on neuron_concepts.layer = neuron_words.layer and neuron_concepts.unit = neuron_words.unit
left join neuron_accuracies
    on neuron_concepts.layer = neuron_accuracies.layer and neuron_concepts.unit = neuron_accuracies.unit
where neuron_concepts.layer = $module and neuron_concepts.unit = $unit
