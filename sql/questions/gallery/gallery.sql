-- What is the label of each neuron, and how reliable is it? The strongest neurons of each layer come first.
-- grain: layer, unit
-- parameters: layer
--
-- Of one layer, or of all if $layer is NULL; the first 12,000 by neuron_order. class: the true class of most of the
-- neuron's eight best images.

with

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
    neuron_concepts.network,
    neuron_concepts.layer,
    neuron_concepts.unit,
    neuron_concepts.concept,
    neuron_concepts.runner_up,
    neuron_concepts.similarity,
    neuron_concepts.z,
    neuron_concepts.q,
    neuron_concepts.z_within_class,
    neuron_concepts.split_half_agrees,
    neuron_concepts.bootstrap_share,
    neuron_concepts.judged_by,
    neuron_concepts.judged_ap,
    neuron_concepts.judged_ap_low,
    neuron_concepts.judged_ap_high,
    neuron_words.words,
    neuron_words.reach,
    neuron_accuracies.accuracy,
    commonest_classes.class,
    neuron_concepts.calibrated,
    neuron_concepts.interpretable,
    robust_labels.layer is not null as robust,
    neuron_concepts.dead,
    neuron_concepts.sparse and not neuron_concepts.tied as sparse,
    neuron_concepts.tied
from neuron_order
inner join neuron_concepts
    on neuron_order.layer = neuron_concepts.layer and neuron_order.unit = neuron_concepts.unit
left join neuron_words on neuron_order.layer = neuron_words.layer and neuron_order.unit = neuron_words.unit
left join neuron_accuracies
    on neuron_order.layer = neuron_accuracies.layer and neuron_order.unit = neuron_accuracies.unit
left join robust_labels on neuron_order.layer = robust_labels.layer and neuron_order.unit = robust_labels.unit
left join commonest_classes
    on neuron_order.layer = commonest_classes.layer and neuron_order.unit = commonest_classes.unit
where neuron_order.layer = coalesce($layer, neuron_order.layer)
order by neuron_order.place
limit 12000
