-- What the labels of a layer have not been judged on yet: halves of the probing images, or another split.
-- grain: dissection_id, layer_id, judged_on
--
-- extract judges them. A layer that is labelled anew loses its measures, and has its rows until it is judged again.
-- Labels are judged on every other split of the dataset for which the layer's activations and the CLIP's image
-- embeddings are recorded: that of [judge] in a study.

with

wanted as (

    select dissection_id, layer_id, 'halves' as judged_on
    from labelled_layers
    union all
    select
        labelled_layers.dissection_id,
        labelled_layers.layer_id,
        others.split as judged_on
    from labelled_layers
    inner join dissections on labelled_layers.dissection_id = dissections.dissection_id
    inner join splits as probing on dissections.split_id = probing.split_id
    inner join splits as others
        on
            probing.dataset_id = others.dataset_id
            and probing.split_id <> others.split_id
    inner join finished_extractions as recorded_layers
        on
            labelled_layers.layer_id = recorded_layers.layer_id
            and others.split_id = recorded_layers.split_id
            and recorded_layers.target = 'activations'
    inner join finished_extractions as embedded_images
        on
            dissections.clip_id = embedded_images.clip_id
            and others.split_id = embedded_images.split_id
            and embedded_images.target = 'image_embeddings'

)

select
    wanted.dissection_id,
    wanted.layer_id,
    wanted.judged_on
from wanted
left join judged_layers
    on
        wanted.dissection_id = judged_layers.dissection_id
        and wanted.layer_id = judged_layers.layer_id
        and wanted.judged_on = judged_layers.judged_on
where judged_layers.layer_id is null
