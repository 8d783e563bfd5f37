-- Which network, CLIP and prompts is the shown dissection of?
-- grain: dissection_id

select
    dissections.dissection_id,
    networks.name as network,
    networks.fingerprint as network_fingerprint,
    clips.name as clip,
    clips.fingerprint as clip_fingerprint,
    concept_sets.templates
from shown_dissection
inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
inner join networks on dissections.network_id = networks.network_id
inner join clips on dissections.clip_id = clips.clip_id
inner join concept_sets on dissections.concept_set_id = concept_sets.concept_set_id
