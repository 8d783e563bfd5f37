-- What is the label of one neuron, and how reliable is it?
-- grain: layer, unit
-- parameters: module, unit
--
-- $module is a layer's name, as in the view neuron_concepts. accuracy: the share of the neuron's best images that have a
-- class which the label stands for.

select
    neuron_concepts.network,
    neuron_concepts.layer,
    neuron_concepts.unit,
    neuron_concepts.concept,
    neuron_concepts.runner_up,
    neuron_concepts.similarity,
    neuron_concepts.margin,
    neuron_concepts.z,
    neuron_concepts.p,
    neuron_concepts.q,
    neuron_concepts.interpretable,
    neuron_concepts.calibrated,
    neuron_concepts.above_tau,
    neuron_concepts.split_half_agrees,
    neuron_concepts.bootstrap_share,
    neuron_concepts.judged_by,
    neuron_concepts.judged_ap,
    neuron_concepts.dead,
    neuron_concepts.sparse,
    neuron_concepts.tied,
    neuron_concepts.images_fired,
    neuron_words.words,
    neuron_accuracies.accuracy,
    neuron_concepts.dissection_id
from neuron_concepts
left join neuron_words
    on neuron_concepts.layer = neuron_words.layer and neuron_concepts.unit = neuron_words.unit
left join neuron_accuracies
    on neuron_concepts.layer = neuron_accuracies.layer and neuron_concepts.unit = neuron_accuracies.unit
where neuron_concepts.layer = $module and neuron_concepts.unit = $unit
order by neuron_concepts.layer, neuron_concepts.unit
