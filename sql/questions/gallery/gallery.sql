-- What is the label of each neuron, and how far is it to be believed? The strongest neurons of each layer come first.
-- grain: layer, unit
-- parameters: layer
--
-- Of one layer, or of all where $layer is NULL. Layers take turns, so that none is missing from the first 12,000; dead
-- and sparse neurons come last. class: the true class of most of the neuron's eight best images.

with

placed as (

    select
        neuron_concepts.*,
        layer_summary.position,
        row_number() over (
            partition by neuron_concepts.layer
            order by
                neuron_concepts.dead, neuron_concepts.sparse, neuron_concepts.calibrated desc,
                neuron_concepts.z desc nulls last,
                neuron_concepts.similarity desc nulls last, neuron_concepts.unit
        ) as place_in_layer
    from neuron_concepts
    inner join layer_summary on neuron_concepts.layer = layer_summary.layer
    where neuron_concepts.layer = coalesce($layer, neuron_concepts.layer)

),

counted_classes as (

    select layer, unit, true_class, count(*) as images
    from top_images
    where rank <= 8 and true_class is not null
    group by layer, unit, true_class

),

commonest_classes as (

    select layer, unit, true_class as class
    from counted_classes
    qualify row_number() over (partition by layer, unit order by images desc, true_class) = 1

)

select
    placed.network,
    placed.layer,
    placed.unit,
    placed.concept,
    placed.runner_up,
    placed.similarity,
    placed.z,
    placed.q,
    placed.z_within_class,
    placed.split_half_agrees,
    placed.bootstrap_share,
    placed.judged_by,
    placed.judged_ap,
    placed.judged_ap_low,
    placed.judged_ap_high,
    neuron_accuracies.accuracy,
    commonest_classes.class,
    placed.calibrated,
    placed.interpretable,
    robust_labels.layer is not null as robust,
    placed.dead,
    placed.sparse
from placed
left join neuron_accuracies
    on placed.layer = neuron_accuracies.layer and placed.unit = neuron_accuracies.unit
left join robust_labels on placed.layer = robust_labels.layer and placed.unit = robust_labels.unit
left join commonest_classes on placed.layer = commonest_classes.layer and placed.unit = commonest_classes.unit
order by placed.dead, placed.sparse, placed.place_in_layer, placed.position desc, placed.layer
limit 12000
