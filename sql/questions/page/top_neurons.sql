-- Which neurons have the strongest labels that chance does not explain, and which images activate them most?
-- grain: layer, unit, rank
--
-- Twelve neurons with eight images each: at most three per layer, and one per concept in it, so that they differ.
-- If no null was drawn: interpretable neurons, by their similarity.

with

of_concepts as (

    select layer, unit, concept, similarity, runner_up, z, q, z_within_class
    from neuron_concepts
    where case when p is null then interpretable else calibrated end
    qualify
        row_number() over (
            partition by layer, concept
            order by z desc nulls last, similarity desc, unit
        ) = 1

),

of_layers as (

    select layer, unit, concept, similarity, runner_up, z, q, z_within_class
    from of_concepts
    qualify
        row_number() over (
            partition by layer
            order by z desc nulls last, similarity desc, unit
        ) <= 3

),

strongest as (

    select
        layer, unit, concept, similarity, runner_up, z, q, z_within_class,
        row_number() over (order by z desc nulls last, similarity desc, layer, unit) as place
    from of_layers

)

select
    strongest.layer,
    strongest.unit,
    strongest.concept,
    strongest.similarity,
    strongest.runner_up,
    strongest.z,
    strongest.q,
    strongest.z_within_class,
    neuron_accuracies.accuracy,
    top_images.rank,
    top_images.image_id,
    top_images.value,
    top_images.true_class,
    top_images.predicted_class,
    top_images.is_correct,
    images.thumbnail
from strongest
inner join top_images
    on
        strongest.layer = top_images.layer
        and strongest.unit = top_images.unit
inner join images on top_images.image_id = images.image_id
left join neuron_accuracies
    on
        strongest.layer = neuron_accuracies.layer
        and strongest.unit = neuron_accuracies.unit
where strongest.place <= 12 and top_images.rank <= 8
order by strongest.place, top_images.rank
