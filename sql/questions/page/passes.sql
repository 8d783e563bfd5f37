-- On which devices, in which precision and with which versions were the passes run that the labels depend on?
-- grain: device, precision, versions

select distinct extractions.device, extractions.precision, extractions.versions
from extractions
inner join dissections on extractions.split_id = dissections.split_id
inner join shown_dissection on dissections.dissection_id = shown_dissection.dissection_id
left join layers on extractions.layer_id = layers.layer_id
where
    coalesce(extractions.network_id, layers.network_id, dissections.network_id) = dissections.network_id
    and coalesce(extractions.clip_id, dissections.clip_id) = dissections.clip_id
order by extractions.device, extractions.precision, extractions.versions
