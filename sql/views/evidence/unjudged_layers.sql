-- The labelled layers of a dissection whose labels have not been judged yet on halves of the probing images.
-- grain: dissection_id, layer_id
--
-- extract judges them. A layer that is labelled anew loses its measures, and has a row until it is judged again.

select
    labelled_layers.dissection_id,
    labelled_layers.layer_id
from labelled_layers
left join judged_layers
    on
        labelled_layers.dissection_id = judged_layers.dissection_id
        and labelled_layers.layer_id = judged_layers.layer_id
        and judged_layers.judged_on = 'halves'
where judged_layers.layer_id is null
