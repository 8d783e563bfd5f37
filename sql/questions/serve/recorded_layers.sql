-- In which way is each layer of the shown network recorded? One that only the layout tells from another is left out.
-- grain: layer

select
    named_layers.layer,
    layers.layer as module,
    layers.pooling,
    layers.call
from shown_dissection
inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
inner join layers on dissections.network_id = layers.network_id
inner join named_layers on layers.layer_id = named_layers.layer_id
qualify count(*) over (partition by layers.layer, layers.pooling, layers.call) = 1
