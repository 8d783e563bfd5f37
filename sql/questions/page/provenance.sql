-- What exactly do the labels depend on? The seed, and the fingerprints of all that the dissection was made from.
-- grain: dissection

select
    dissections.seed,
    datasets.fingerprint as dataset,
    networks.fingerprint as network,
    clips.fingerprint as clip,
    concept_sets.fingerprint as concept_set,
    dissections.fingerprint as dissection
from shown_dissection
inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
inner join networks on dissections.network_id = networks.network_id
inner join splits on dissections.split_id = splits.split_id
inner join datasets on splits.dataset_id = datasets.dataset_id
inner join clips on dissections.clip_id = clips.clip_id
inner join concept_sets on dissections.concept_set_id = concept_sets.concept_set_id
