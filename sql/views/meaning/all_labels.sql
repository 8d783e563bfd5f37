-- The label of each neuron in every dissection of the warehouse; most views show one dissection only.
-- grain: network, layer, unit, dissection_id
-- public
--
-- Scorer, concept set, CLIP, images and settings identify a dissection. shown: it is the one that the other views
-- show.
-- A dead neuron keeps its row, without a label.

select
    named_neurons.network,
    named_neurons.layer,
    named_neurons.unit,
    labels.concept,
    neuron_labels.similarity,
    runners_up.concept as runner_up,
    neuron_labels.margin,
    neuron_labels.z,
    neuron_labels.p,
    neuron_labels.q,
    neuron_labels.interpretable,
    neuron_labels.calibrated,
    neuron_labels.dead,
    dissection_summary.scorer,
    dissection_summary.concept_set,
    dissection_summary.clip,
    dissection_summary.dataset,
    dissection_summary.probing_split,
    dissection_summary.shown,
    neuron_labels.dissection_id
from neuron_labels
inner join named_neurons on neuron_labels.neuron_id = named_neurons.neuron_id
inner join dissection_summary on neuron_labels.dissection_id = dissection_summary.dissection_id
left join concepts as labels on neuron_labels.concept_id = labels.concept_id
left join concepts as runners_up on neuron_labels.runner_up_id = runners_up.concept_id
