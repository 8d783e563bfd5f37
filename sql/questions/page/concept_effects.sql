-- How much does the loss of each class rise when the neurons of a concept are silenced, and when random ones are?
-- grain: concept, class
--
-- In the layer and split that were measured last; the 24 concepts with the largest effects.

with

newest as (

    select layer, split
    from concept_effects
    order by ablation_id desc
    limit 1

),

measured as (

    select
        concept_effects.layer,
        concept_effects.split,
        concept_effects.concept,
        concept_effects.class,
        concept_effects.neurons,
        concept_effects.delta_accuracy,
        concept_effects.delta_loss,
        concept_effects.random_delta_loss,
        concept_effects.excess,
        concept_effects.p
    from concept_effects
    inner join newest on concept_effects.layer = newest.layer and concept_effects.split = newest.split
    where concept_effects.class is not null

),

strongest as (

    select concept
    from measured
    group by concept
    order by max(abs(excess)) desc nulls last, concept
    limit 24

)

select *
from measured
where concept in (select concept from strongest)
order by concept, class
limit 5000
