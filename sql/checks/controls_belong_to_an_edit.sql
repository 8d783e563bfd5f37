-- A row is a control without its edit, an edit that names another edit but is not a control, a control of a control,
-- or a control of an edit of another network, dissection or layer.

select
    edits.edit_id,
    edits.control,
    edits.control_of,
    originals.control as control_of_original
from edits
left join edits as originals on edits.control_of = originals.edit_id
where
    (edits.control is null) <> (edits.control_of is null)
    or originals.control is not null
    or originals.network_id <> edits.network_id
    or originals.dissection_id <> edits.dissection_id
    or originals.layer <> edits.layer
