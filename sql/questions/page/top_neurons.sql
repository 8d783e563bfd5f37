-- Which neurons have the strongest labels that chance does not explain, and which images activate them most?
-- grain: layer, unit, rank
--
-- Twelve neurons with four images each: at most three per layer, and one per concept in it, so that they differ.
-- If no null was drawn: interpretable neurons, by their similarity.

with

of_concepts as (

    select layer, unit, concept, similarity, runner_up, z, q, z_within_class, calibrated
    from neuron_concepts
    where case when p is null then interpretable else calibrated end
    qualify
        row_number() over (
            partition by layer, concept
            order by z desc nulls last, similarity desc, unit
        ) = 1

),

of_layers as (

    select layer, unit, concept, similarity, runner_up, z, q, z_within_class, calibrated
    from of_concepts
    qualify
        row_number() over (
            partition by layer
            order by z desc nulls last, similarity desc, unit
        ) <= 3

),

strongest as (

    select
        layer, unit, concept, similarity, runner_up, z, q, z_within_class, calibrated,
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
    strongest.calibrated,
    robust_labels.layer is not null as robust,
    neuron_accuracies.accuracy,
    top_images.rank,
    top_images.image_id,
    top_images.value,
    top_images.true_class,
    top_images.predicted_class,
    top_images.is_correct,
    regexp_replace(images.path, '^.*[/\\]', '') as file,
    images.width,
    images.height,
    image_regions.cells,
    image_regions.grid_rows,
    image_regions.grid_columns,
    image_regions.top_row,
    image_regions.top_column,
    image_regions.low,
    image_regions.high,
    image_regions.threshold,
    image_regions.part_top,
    image_regions.part_bottom,
    image_regions.part_left,
    image_regions.part_right,
    images.thumbnail
from strongest
inner join top_images
    on
        strongest.layer = top_images.layer
        and strongest.unit = top_images.unit
inner join images on top_images.image_id = images.image_id
left join image_regions
    on
        strongest.layer = image_regions.layer
        and strongest.unit = image_regions.unit
        and top_images.rank = image_regions.rank
left join robust_labels
    on
        strongest.layer = robust_labels.layer
        and strongest.unit = robust_labels.unit
left join neuron_accuracies
    on
        strongest.layer = neuron_accuracies.layer
        and strongest.unit = neuron_accuracies.unit
where strongest.place <= 12 and top_images.rank <= 4
order by strongest.place, top_images.rank
