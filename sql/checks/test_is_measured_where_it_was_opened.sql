-- A row is an edit that was measured on test images without an opening for it, or for the edit that it is a control of.

select
    edits.edit_id,
    edits.name,
    edits.control_of,
    edit_blocks.split_id,
    count(*) as blocks
from edits
inner join edit_blocks on edits.edit_id = edit_blocks.edit_id
inner join splits on edit_blocks.split_id = splits.split_id
left join split_openings
    on
        coalesce(edits.control_of, edits.edit_id) = split_openings.edit_id
        and edit_blocks.split_id = split_openings.split_id
where splits.split = 'test' and split_openings.edit_id is null
group by edits.edit_id, edits.name, edits.control_of, edit_blocks.split_id
