-- Each control of an edit beside the edit itself, for a chart that compares them.
-- grain: control_id, split_id
--
-- is_edit: the control gives every neuron the same scales as the edit, so it is the edit itself.

with

copies as (

    select controls.edit_id
    from edits as controls
    inner join edit_scales as scales on controls.edit_id = scales.edit_id
    inner join edit_scales as own_scales
        on
            controls.control_of = own_scales.edit_id
            and scales.neuron_id = own_scales.neuron_id
    group by controls.edit_id
    having
        count(*) filter (
            where scales.scale <> own_scales.scale or scales.bias_scale <> own_scales.bias_scale
        ) = 0

)

select
    edits.edit_id,
    splits.split,
    controls.control,
    controls.draw,
    control_outcomes.correct_after - control_outcomes.correct_before as difference,
    control_outcomes.loss_after - control_outcomes.loss_before as loss_difference,
    edit_outcomes.correct_after - edit_outcomes.correct_before as difference_of_edit,
    copies.edit_id is not null as is_edit,
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
left join copies on controls.edit_id = copies.edit_id
