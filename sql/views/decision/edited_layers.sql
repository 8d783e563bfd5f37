-- The layers that each edit scales, by their shown names, nearest to the image first.
-- grain: edit_id

select
    edit_layers.edit_id,
    nd_joined(named_layers.layer, named_layers.position) as layer
from edit_layers
inner join named_layers on edit_layers.layer_id = named_layers.layer_id
group by edit_layers.edit_id
