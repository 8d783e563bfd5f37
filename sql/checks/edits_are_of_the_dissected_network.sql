-- A row is an edit of a network other than that of its dissection.

select
    edits.edit_id,
    edits.network_id,
    dissections.network_id as dissected_network_id
from edits
inner join dissections on edits.dissection_id = dissections.dissection_id
where edits.network_id <> dissections.network_id
