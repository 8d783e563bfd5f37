-- Which network and layer does an edit change, and by which rule?
-- grain: name
-- parameters: edit_id

select
    edits.name,
    coalesce(edited_layers.layer, edits.layer) as layer,
    edits.rule,
    networks.name as network,
    parents.name as parent
from edits
left join edited_layers on edits.edit_id = edited_layers.edit_id
inner join networks on edits.network_id = networks.network_id
left join networks as parents on networks.parent_network_id = parents.network_id
where edits.edit_id = $edit_id
