-- Each method whose labels are judged, with the names of its network, images and CLIP.
-- grain: rival_id

select
    rivals.rival_id,
    rivals.network_id,
    networks.name as network,
    rivals.method,
    rivals.control,
    clips.name as clip,
    named_datasets.dataset,
    splits.split,
    rivals.dissection_id
from rivals
inner join networks on rivals.network_id = networks.network_id
inner join clips on rivals.clip_id = clips.clip_id
inner join splits on rivals.split_id = splits.split_id
inner join named_datasets on splits.dataset_id = named_datasets.dataset_id
