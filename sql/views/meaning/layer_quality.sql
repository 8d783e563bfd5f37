-- The mean measures of each layer's labels on images that played no part in them, of the calibrated ones and of all.
-- grain: network, layer, judged_on, reference, dissection_id
-- public
--
-- reference, judged_on and the measures: as in label_quality. labels: those that were judged. calibrated: of these, the
-- ones with q within the limit, over which the means calibrated_… are.

select
    label_quality.network,
    label_quality.layer,
    label_quality.reference,
    label_quality.judged_on,
    count(label_quality.ap_corrected) as labels,
    count(label_quality.ap_corrected) filter (where neuron_concepts.calibrated) as calibrated,
    avg(label_quality.pearson) as pearson,
    avg(label_quality.ap_corrected) as ap_corrected,
    avg(label_quality.f1) as f1,
    avg(label_quality.iou) as iou,
    avg(label_quality.auc) as auc,
    avg(label_quality.pearson) filter (where neuron_concepts.calibrated) as calibrated_pearson,
    avg(label_quality.ap_corrected) filter (where neuron_concepts.calibrated) as calibrated_ap_corrected,
    avg(label_quality.f1) filter (where neuron_concepts.calibrated) as calibrated_f1,
    avg(label_quality.iou) filter (where neuron_concepts.calibrated) as calibrated_iou,
    avg(label_quality.auc) filter (where neuron_concepts.calibrated) as calibrated_auc,
    label_quality.dissection_id
from label_quality
inner join neuron_concepts
    on
        label_quality.network = neuron_concepts.network
        and label_quality.layer = neuron_concepts.layer
        and label_quality.unit = neuron_concepts.unit
        and label_quality.dissection_id = neuron_concepts.dissection_id
group by
    label_quality.network,
    label_quality.layer,
    label_quality.reference,
    label_quality.judged_on,
    label_quality.dissection_id
