-- Where does the shown edit lie among edits that change the layer as much, but not by its labels?
-- grain: split_id, control, difference
--
-- compares: FALSE if every draw of the control is the edit itself.

select
    edit_control_draws.split,
    edit_control_draws.control,
    edit_control_draws.difference,
    count(*) as draws,
    max(edit_control_draws.difference_of_edit) as difference_of_edit,
    max(edit_controls.percentile) is not null as compares,
    edit_control_draws.split_id
from edit_control_draws
inner join edit_controls
    on
        edit_control_draws.edit_id = edit_controls.edit_id
        and edit_control_draws.split_id = edit_controls.split_id
        and edit_control_draws.control = edit_controls.control
inner join latest_edits on edit_control_draws.edit_id = latest_edits.edit_id
inner join shown_dissection on latest_edits.dissection_id = shown_dissection.dissection_id
group by
    edit_control_draws.split, edit_control_draws.control, edit_control_draws.difference, edit_control_draws.split_id
order by edit_control_draws.split_id, edit_control_draws.control, edit_control_draws.difference
limit 5000
