-- How does the output of a layer become one number per image, and for how many of the layers?
-- grain: pooling

select layers.pooling, count(*) as layers
from layer_summary
inner join dissections on layer_summary.dissection_id = dissections.dissection_id
inner join named_layers
    on
        dissections.network_id = named_layers.network_id
        and layer_summary.layer = named_layers.layer
inner join layers on named_layers.layer_id = layers.layer_id
group by layers.pooling
order by layers desc, layers.pooling
limit 20
