-- Each control of an edit beside the edit itself, for a chart that compares them.
-- grain: control_id, split_id

select
    edits.edit_id,
    splits.split,
    controls.control,
    controls.draw,
    control_outcomes.correct_after - control_outcomes.correct_before as difference,
    control_outcomes.loss_after - control_outcomes.loss_before as loss_difference,
    edit_outcomes.correct_after - edit_outcomes.correct_before as difference_of_edit,
    controls.edit_id as control_id,
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
