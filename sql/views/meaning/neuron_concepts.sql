-- What each neuron responds to: its label, the runner-up, and whether the label is interpretable.
-- grain: network, layer, unit, dissection_id
-- public
--
-- category: of the label, if its concept set has categories, as general has (textures, colours, scenes, …).
-- judged_pearson, judged_ap: how well the label describes the neuron on images that played no part in it (pearson and
-- ap_corrected of label_quality: 0 by chance, 1 at best), by judged_by: the true class if the label was measured by
-- it, else another CLIP (other clip), else the one that labels (clip). NULL if too few images have or lack the concept.
-- sparse: too few images can be used to score the neuron. tied: it fires on enough, but its highest values are equal.

select
    named_neurons.network,
    named_neurons.layer,
    named_neurons.unit,
    labels.concept,
    labels.category,
    neuron_labels.similarity,
    runners_up.concept as runner_up,
    neuron_labels.margin,
    neuron_labels.z,
    neuron_labels.p,
    neuron_labels.q,
    neuron_labels.interpretable,
    neuron_labels.above_tau,
    neuron_labels.calibrated,
    class_tests.z_within_class,
    class_tests.p_within,
    class_tests.q_within,
    label_checks.split_half_agrees,
    label_checks.bootstrap_share,
    judged_labels.reference as judged_by,
    judged_labels.pearson as judged_pearson,
    judged_labels.ap_corrected as judged_ap,
    judged_labels.ap_corrected_low as judged_ap_low,
    judged_labels.ap_corrected_high as judged_ap_high,
    neuron_labels.dead,
    neuron_labels.sparse,
    neuron_labels.tied,
    neuron_labels.images_fired,
    neuron_labels.dissection_id
from shown_dissection
inner join neuron_labels on shown_dissection.dissection_id = neuron_labels.dissection_id
inner join named_neurons on neuron_labels.neuron_id = named_neurons.neuron_id
left join label_checks
    on
        neuron_labels.dissection_id = label_checks.dissection_id
        and neuron_labels.neuron_id = label_checks.neuron_id
        and neuron_labels.concept_id = label_checks.concept_id
left join judged_labels
    on
        neuron_labels.dissection_id = judged_labels.dissection_id
        and neuron_labels.neuron_id = judged_labels.neuron_id
        and neuron_labels.concept_id = judged_labels.concept_id
left join class_tests
    on
        neuron_labels.dissection_id = class_tests.dissection_id
        and neuron_labels.neuron_id = class_tests.neuron_id
left join concepts as labels on neuron_labels.concept_id = labels.concept_id
left join concepts as runners_up on neuron_labels.runner_up_id = runners_up.concept_id
