-- How well each label describes its neuron on images that played no part in the label, by six measures.
-- grain: network, layer, unit, judged_on, reference, dissection_id
-- public
--
-- reference: what the label is compared with. clip: what the dissection's CLIP sees in an image. other clip: what the
-- CLIP of [judge] in the study sees. class: the true class of the image, for labels that stand for a class.
-- judged_on: halves: the label of one half of the probing images was judged on the other, and the reverse; a measure is
-- the mean of the two. Otherwise the split that the label of all probing images was judged on.
-- same_halves: how many of the two halves' labels are the neuron's label, 0 to 2; NULL for a split.
-- images, share: how many images judged, and the share of them with the concept.
-- low and high: the 95 % interval of a measure over images.
--
-- pearson: the correlation between the activation and how much of the concept is in the image; 0 by chance.
-- ap: from the most active image down, the share of images with the concept so far, averaged over those with it.
-- ap_corrected: ap, moved so that chance is 0 and the best possible order is 1.
-- f1: of the images that the neuron picks and those with the concept, how far they are the same; 1 if they are equal.
-- iou: the images that are both, divided by those that are either. (Picked: active beyond a limit that was chosen on
-- the images that gave the label.)
-- auc: how often an image with the concept activates the neuron more than one without; 0.5 by chance.
--
-- Measures are NULL if fewer than 20 judging images have or lack the concept, or if a half gives no label.

select
    named_neurons.network,
    named_neurons.layer,
    named_neurons.unit,
    concepts.concept,
    label_measures.reference,
    label_measures.judged_on,
    label_measures.same_halves,
    label_measures.images,
    label_measures.share,
    label_measures.pearson,
    label_measures.pearson_low,
    label_measures.pearson_high,
    label_measures.ap,
    label_measures.ap_low,
    label_measures.ap_high,
    label_measures.ap_corrected,
    label_measures.ap_corrected_low,
    label_measures.ap_corrected_high,
    label_measures.f1,
    label_measures.f1_low,
    label_measures.f1_high,
    label_measures.iou,
    label_measures.iou_low,
    label_measures.iou_high,
    label_measures.auc,
    label_measures.auc_low,
    label_measures.auc_high,
    label_measures.dissection_id
from shown_dissection
inner join label_measures on shown_dissection.dissection_id = label_measures.dissection_id
inner join named_neurons on label_measures.neuron_id = named_neurons.neuron_id
inner join concepts on label_measures.concept_id = concepts.concept_id
