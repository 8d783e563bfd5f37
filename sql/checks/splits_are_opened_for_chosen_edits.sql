-- A row is a split that was opened for a control, or for an edit that was not chosen on another split.

select
    split_openings.edit_id,
    split_openings.split_id,
    edits.control
from split_openings
inner join edits on split_openings.edit_id = edits.edit_id
left join edit_choices
    on
        split_openings.edit_id = edit_choices.edit_id
        and split_openings.split_id <> edit_choices.split_id
where edits.control is not null or edit_choices.edit_id is null
