-- A row is a dissection without a finished layer, or whose image embeddings or predictions are not finished.
--
-- A network without classes makes no predictions: it has no classifier, or arrays were imported without any.

with

needed as (

    select dissection_id, split_id, network_id, clip_id, 'activations' as target
    from dissections
    union all
    select dissection_id, split_id, dissections.network_id, clip_id, 'predictions' as target
    from dissections
    inner join networks on dissections.network_id = networks.network_id
    where len(networks.classes) > 0
    union all
    select dissection_id, split_id, network_id, clip_id, 'image_embeddings' as target
    from dissections

)

select needed.dissection_id, needed.target
from needed
where
    not exists (
        select 1
        from finished_extractions
        left join layers on finished_extractions.layer_id = layers.layer_id
        where
            finished_extractions.target = needed.target
            and finished_extractions.split_id = needed.split_id
            and (
                (needed.target = 'activations' and layers.network_id = needed.network_id)
                or (needed.target = 'predictions' and finished_extractions.network_id = needed.network_id)
                or (needed.target = 'image_embeddings' and finished_extractions.clip_id = needed.clip_id)
            )
    )
