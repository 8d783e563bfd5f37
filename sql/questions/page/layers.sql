-- How many neurons of each layer are interpretable by either rule, and how many of their labels pass more tests?
-- grain: layer
--
-- How many pass is NULL where none could be tested (num_halved, num_classed, num_tested). At most 1,000 layers, because charts draw five points per layer.

select
    layer_summary.network,
    layer_summary.layer,
    layer_summary.neurons,
    layer_summary.num_interpretable,
    layer_summary.num_uninterpretable,
    layer_summary.overall_accuracy,
    layer_summary.interpretable_accuracy,
    layer_summary.uninterpretable_accuracy,
    layer_summary.proportion_interpretable,
    layer_summary.num_above_tau,
    layer_checks.num_calibrated,
    layer_summary.num_dead,
    layer_summary.mean_similarity,
    layer_summary.interpretable_weight_l1,
    layer_summary.uninterpretable_weight_l1,
    layer_summary.num_sparse,
    layer_summary.num_tied,
    layer_summary.position,
    layer_summary.dissection_id,
    layer_checks.share_above_tau,
    layer_checks.share_calibrated,
    layer_checks.num_halved,
    layer_checks.num_agreeing,
    layer_checks.num_classed,
    layer_checks.num_within_class,
    layer_checks.num_outstanding,
    layer_checks.bootstrap_share,
    layer_checks.num_tested,
    layer_checks.num_robust,
    layer_checks.share_robust,
    by_clip.calibrated_ap_corrected as judged_by_clip,
    by_other_clip.calibrated_ap_corrected as judged_by_other_clip,
    by_class.calibrated_ap_corrected as judged_by_class
from layer_summary
inner join layer_checks
    on
        layer_summary.layer = layer_checks.layer
        and layer_summary.dissection_id = layer_checks.dissection_id
left join layer_quality as by_clip
    on
        layer_summary.layer = by_clip.layer
        and by_clip.reference = 'clip'
        and by_clip.judged_on = 'halves'
left join layer_quality as by_other_clip
    on
        layer_summary.layer = by_other_clip.layer
        and by_other_clip.reference = 'other clip'
        and by_other_clip.judged_on = 'halves'
left join layer_quality as by_class
    on
        layer_summary.layer = by_class.layer
        and by_class.reference = 'class'
        and by_class.judged_on = 'halves'
order by layer_summary.position, layer_summary.layer
limit 1000
