-- How each edit changed the network's predictions on a split, and whether the change is significant.
-- grain: edit_id, split_id
-- public
--
-- p_mcnemar: McNemar's exact test on the images gained and lost; small if something changed.
-- percentile, p_random: the rank of the edit among random edits, and how often a random edit is as good
-- (edit_controls).
-- p_corrected: the chance that the best of as many random edits as were tried on this split is as good, 1 - (1 - p) ^
-- edits_tried. p is p_random, or p_mcnemar if no random control differs from the edit. On the test split, edits_tried counts the
-- edits for which the split was opened.
-- low, high: paired bootstrap 95 % interval of the difference in accuracy. loss_low, loss_high: of the difference in
-- loss.
-- detectable: the smallest difference in accuracy that McNemar's test at 5 % finds four times in five on this number
-- of images, if as many images change as did.
-- verdict: harmed if p_mcnemar is at most 5 % and more images were lost than gained; helped if more were gained and
-- p_corrected is at most 5 % too; otherwise no evidence.

with

judged as (

    select
        paired_outcomes.*,
        edit_controls.percentile,
        edit_controls.p as p_random,
        edit_rankings.edits_tried,
        1 - pow(1 - coalesce(edit_controls.p, paired_outcomes.p_mcnemar), edit_rankings.edits_tried) as p_corrected
    from paired_outcomes
    inner join edit_rankings
        on
            paired_outcomes.edit_id = edit_rankings.edit_id
            and paired_outcomes.split_id = edit_rankings.split_id
    left join edit_controls
        on
            paired_outcomes.edit_id = edit_controls.edit_id
            and paired_outcomes.split_id = edit_controls.split_id
            and edit_controls.control = 'random'
    where paired_outcomes.edit_id is not null  -- so that the engine need not compare networks

)

select
    edits.edit_id,
    coalesce(edited.name, originals.name || '+' || edits.name) as network,
    coalesce(edited_layers.layer, edits.layer) as layer,
    edits.rule,
    edits.tau,
    edits.factor,
    splits.split,
    judged.images,
    judged.correct as correct_before,
    judged.other_correct as correct_after,
    judged.correct / judged.images as accuracy_before,
    judged.other_correct / judged.images as accuracy_after,
    judged.loss as loss_before,
    judged.other_loss as loss_after,
    judged.gained,
    judged.lost,
    judged.p_mcnemar,
    judged.p_corrected,
    edit_intervals.low,
    edit_intervals.high,
    judged.changed,
    edit_intervals.loss_low,
    edit_intervals.loss_high,
    edit_calibration.ece_before,
    edit_calibration.ece_after,
    judged.edits_tried,
    judged.percentile,
    judged.p_random,
    cast(2.801585218112969 as double)  -- normal quantiles of 97.5 % and 80 %
    * sqrt(nullif(judged.gained + judged.lost, 0)) / judged.images as detectable,
    case
        when judged.p_mcnemar > cast(0.05 as double) then 'no evidence'
        when judged.gained < judged.lost then 'harmed'
        when judged.p_corrected > cast(0.05 as double) then 'no evidence'
        else 'helped'
    end as verdict,
    judged.split_id = dissections.split_id as is_probing_set,
    judged.split_id,
    edits.dissection_id
from judged
inner join edits on judged.edit_id = edits.edit_id
inner join dissections on edits.dissection_id = dissections.dissection_id
inner join networks as originals on edits.network_id = originals.network_id
inner join splits on judged.split_id = splits.split_id
left join edited_layers on edits.edit_id = edited_layers.edit_id
left join networks as edited on edits.edit_id = edited.edit_id
left join edit_intervals
    on
        judged.edit_id = edit_intervals.edit_id
        and judged.split_id = edit_intervals.split_id
left join edit_calibration
    on
        judged.edit_id = edit_calibration.edit_id
        and judged.split_id = edit_calibration.split_id
