-- How predictions change if all neurons of a concept are silenced, compared with as many random neurons.
-- grain: ablation_id, class
-- public
--
-- The neurons are the interpretable neurons of a layer with this label. delta_accuracy, delta_loss: for the images of
-- a class, the value with the neurons silenced minus the value without. random_…: means over random sets of the same
-- size.
-- excess: how many standard deviations of the random sets the loss rises above their mean. p: how often a random set
-- raises the loss as much, (1 + number that did) / (1 + draws).
-- images: the number of images of the measurement. If a split was measured several times, the newest measurement is
-- shown.

with

newest as (

    select ablation_id, network_id, split_id, layer_id, dissection_id, concept_id, neurons, images
    from ablations
    where concept_id is not null
    qualify
        row_number() over (
            partition by dissection_id, layer_id, concept_id, split_id
            order by ablation_id desc
        ) = 1

),

random_sets as (

    select
        ablations.dissection_id,
        ablations.layer_id,
        ablations.split_id,
        ablations.neurons,
        ablations.images,
        ablation_effects.class,
        (ablation_effects.gained - ablation_effects.lost) / ablation_effects.images as delta_accuracy,
        ablation_effects.loss_change as delta_loss
    from ablations
    inner join ablation_effects on ablations.ablation_id = ablation_effects.ablation_id
    where ablations.draw is not null
    qualify
        row_number() over (
            partition by
                ablations.dissection_id, ablations.layer_id, ablations.split_id, ablations.neurons,
                ablations.images, ablations.draw, ablation_effects.class
            order by ablations.ablation_id desc
        ) = 1

),

compared as (

    select
        newest.ablation_id,
        ablation_effects.class,
        count(random_sets.class) as draws,
        avg(random_sets.delta_accuracy) as random_delta_accuracy,
        avg(random_sets.delta_loss) as random_delta_loss,
        stddev_pop(random_sets.delta_loss) as random_sd,
        count(*) filter (where random_sets.delta_loss >= ablation_effects.loss_change) as as_much
    from newest
    inner join ablation_effects on newest.ablation_id = ablation_effects.ablation_id
    left join random_sets
        on
            newest.dissection_id = random_sets.dissection_id
            and newest.layer_id = random_sets.layer_id
            and newest.split_id = random_sets.split_id
            and newest.neurons = random_sets.neurons
            and newest.images = random_sets.images
            and ablation_effects.class = random_sets.class
    group by newest.ablation_id, ablation_effects.class

)

select
    networks.name as network,
    named_layers.layer,
    concepts.concept,
    ablation_effects.class,
    newest.neurons,
    (ablation_effects.gained - ablation_effects.lost) / ablation_effects.images as delta_accuracy,
    ablation_effects.loss_change as delta_loss,
    ablation_effects.flips,
    ablation_effects.loss_change
    - cast(1.959963984540054 as double) * ablation_effects.loss_change_sd / sqrt(ablation_effects.images) as loss_low,
    ablation_effects.loss_change
    + cast(1.959963984540054 as double) * ablation_effects.loss_change_sd / sqrt(ablation_effects.images) as loss_high,
    compared.random_delta_accuracy,
    compared.random_delta_loss,
    (ablation_effects.loss_change - compared.random_delta_loss) / nullif(compared.random_sd, 0) as excess,
    case when compared.draws > 0 then (1 + compared.as_much) / (1 + compared.draws) end as p,
    compared.draws,
    splits.split,
    ablation_effects.images,
    newest.ablation_id,
    newest.dissection_id
from newest
inner join shown_dissection on newest.dissection_id = shown_dissection.dissection_id
inner join ablation_effects on newest.ablation_id = ablation_effects.ablation_id
inner join compared
    on
        ablation_effects.ablation_id = compared.ablation_id
        and ablation_effects.class = compared.class
inner join networks on newest.network_id = networks.network_id
inner join named_layers on newest.layer_id = named_layers.layer_id
inner join concepts on newest.concept_id = concepts.concept_id
inner join splits on newest.split_id = splits.split_id
