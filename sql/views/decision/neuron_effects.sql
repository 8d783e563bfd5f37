-- How predictions for the images of a class change if the output of a neuron is set to 0.
-- grain: ablation_id, class, dissection_id
-- public
--
-- delta_accuracy, delta_loss: the value with the neuron silenced minus the value without. low, high and loss_low,
-- loss_high: normal 95 % intervals over the images. class NULL: over all classes.
-- images: the number of images of the measurement. If a neuron was measured several times on a split, the newest
-- measurement is shown.

with

newest as (

    select ablation_id, neuron_id, split_id
    from ablations
    where neuron_id is not null
    qualify row_number() over (partition by neuron_id, split_id order by ablation_id desc) = 1

),

by_class as (

    select
        ablation_id,
        class,
        images,
        gained,
        lost,
        flips,
        loss_change,
        loss_change_sd
    from ablation_effects
    union all
    select
        ablation_id,
        cast(null as varchar) as class,
        nd_total(images) as images,
        nd_total(gained) as gained,
        nd_total(lost) as lost,
        nd_total(flips) as flips,
        sum(images * loss_change) / sum(images) as loss_change,
        sqrt(
            greatest(
                sum(images * (loss_change_sd * loss_change_sd + loss_change * loss_change)) / sum(images)
                - (sum(images * loss_change) / sum(images)) * (sum(images * loss_change) / sum(images)),
                0
            )
        ) as loss_change_sd
    from ablation_effects
    group by ablation_id

),

changes as (

    select
        *,
        (gained - lost) / images as delta_accuracy,
        cast(1.959963984540054 as double)
        * sqrt(gained + lost - (gained - lost) * (gained - lost) / images) / images as half_width,
        cast(1.959963984540054 as double) * loss_change_sd / sqrt(images) as loss_half_width
    from by_class

)

select
    named_neurons.network,
    named_neurons.layer,
    named_neurons.unit,
    concepts.concept,
    changes.class,
    changes.delta_accuracy,
    changes.loss_change as delta_loss,
    changes.flips,
    changes.delta_accuracy - changes.half_width as low,
    changes.delta_accuracy + changes.half_width as high,
    changes.loss_change - changes.loss_half_width as loss_low,
    changes.loss_change + changes.loss_half_width as loss_high,
    splits.split,
    changes.images,
    newest.ablation_id,
    neuron_labels.dissection_id
from shown_dissection
inner join neuron_labels on shown_dissection.dissection_id = neuron_labels.dissection_id
inner join newest on neuron_labels.neuron_id = newest.neuron_id
inner join changes on newest.ablation_id = changes.ablation_id
inner join named_neurons on newest.neuron_id = named_neurons.neuron_id
inner join splits on newest.split_id = splits.split_id
left join concepts on neuron_labels.concept_id = concepts.concept_id
