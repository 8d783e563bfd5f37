-- Where an edit lies among its controls, which do as much to the layer without its labels.
-- grain: edit_id, split_id, control
--
-- control: all (every neuron by the factor), random (the same scales on other neurons), matched (on neurons of about
-- the same weight norm), shuffled (the same rule on labels of shuffled images), bias (biases scaled instead).
-- percentile: share of the draws that the edit beats, ties counting half; p: how often one at least as good would come
-- by chance, (1 + as many as did) / (1 + draws).

select
    edits.edit_id,
    splits.split,
    controls.control,
    count(*) as draws,
    max(edit_outcomes.correct_after - edit_outcomes.correct_before) as difference,
    min(control_outcomes.correct_after - control_outcomes.correct_before) as lowest,
    avg(control_outcomes.correct_after - control_outcomes.correct_before) as mean,
    max(control_outcomes.correct_after - control_outcomes.correct_before) as highest,
    avg(
        case
            when control_outcomes.correct_after < edit_outcomes.correct_after then cast(1 as double)
            when control_outcomes.correct_after = edit_outcomes.correct_after then cast(0.5 as double)
            else 0
        end
    ) as percentile,
    (1 + count(*) filter (where control_outcomes.correct_after >= edit_outcomes.correct_after))
    / (1 + count(*)) as p,
    edit_outcomes.split_id,
    edits.dissection_id
from edits
inner join edits as controls on edits.edit_id = controls.control_of
inner join edit_outcomes on edits.edit_id = edit_outcomes.edit_id
inner join edit_outcomes as control_outcomes
    on
        controls.edit_id = control_outcomes.edit_id
        and edit_outcomes.split_id = control_outcomes.split_id
inner join splits on edit_outcomes.split_id = splits.split_id
group by edits.edit_id, splits.split, controls.control, edit_outcomes.split_id, edits.dissection_id
