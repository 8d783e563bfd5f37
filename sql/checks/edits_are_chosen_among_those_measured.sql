-- A row is a chosen edit that is a control, that was not measured on the whole split, or that was chosen among more
-- edits than exist.

with

tried as (

    select network_id, count(*) as edits
    from edits
    where control is null
    group by network_id

)

select
    edit_choices.edit_id,
    edit_choices.split_id,
    edit_choices.edits_tried,
    edits.control
from edit_choices
inner join edits on edit_choices.edit_id = edits.edit_id
left join tried on edits.network_id = tried.network_id
left join finished_edits
    on
        edit_choices.edit_id = finished_edits.edit_id
        and edit_choices.split_id = finished_edits.split_id
where
    edits.control is not null
    or finished_edits.edit_id is null
    or edit_choices.edits_tried not between 1 and tried.edits
