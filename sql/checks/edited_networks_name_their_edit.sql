-- A row is an edited network without its original, with another original than its edit has, or one of several networks
-- of one edit. A network with an original and without an edit is allowed: it was edited here and later probed by
-- itself.

select
    networks.network_id,
    networks.name,
    networks.edit_id,
    networks.parent_network_id,
    edits.network_id as edited_network_id
from networks
left join edits on networks.edit_id = edits.edit_id
where
    (networks.edit_id is not null and networks.parent_network_id is null)
    or networks.parent_network_id <> edits.network_id
    or networks.edit_id in (
        select edit_id from networks where edit_id is not null group by edit_id having count(*) > 1
    )
