-- The network, images, CLIP, concepts and settings of each dissection, by name and in counts.
-- grain: dissection_id
-- public

with

counted_images as (

    select
        split_id,
        count(*) filter (where defect is null) as images,
        count(defect) as images_left_out
    from images
    group by split_id

),

counted_concepts as (

    select concept_set_id, count(*) as concepts
    from concepts
    group by concept_set_id

)

select
    networks.name as network,
    named_datasets.dataset,
    splits.split as probing_split,
    counted_images.images,
    counted_images.images_left_out,
    clips.name as clip,
    clips.weights as clip_weights,
    concept_sets.name as concept_set,
    counted_concepts.concepts,
    dissections.scorer,
    dissections.engine,
    dissections.top_k,
    dissections.rule,
    dissections.tau,
    dissections.q_limit,
    dissections.created_at,
    dissections.dissection_id = shown_dissection.dissection_id as shown,
    dissections.network_id,
    dissections.dissection_id
from dissections
inner join networks on dissections.network_id = networks.network_id
inner join splits on dissections.split_id = splits.split_id
inner join named_datasets on splits.dataset_id = named_datasets.dataset_id
inner join counted_images on dissections.split_id = counted_images.split_id
inner join clips on dissections.clip_id = clips.clip_id
inner join concept_sets on dissections.concept_set_id = concept_sets.concept_set_id
inner join counted_concepts on dissections.concept_set_id = counted_concepts.concept_set_id
cross join shown_dissection
