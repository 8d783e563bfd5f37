-- A row is an effect with more changed images than its class has, or with a change of loss that is not a number. A row
-- without a class is an ablation whose images are not those of its classes.

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
where
    images < 1
    or gained < 0
    or lost < 0
    or gained + lost > flips
    or flips > images
    or not isfinite(loss_change)
    or not isfinite(loss_change_sd)
    or loss_change_sd < 0
union all
select
    ablations.ablation_id,
    null as class,
    coalesce(sum(ablation_effects.images), 0) as images,
    null as gained,
    null as lost,
    null as flips,
    null as loss_change,
    null as loss_change_sd
from ablations
left join ablation_effects on ablations.ablation_id = ablation_effects.ablation_id
group by ablations.ablation_id, ablations.images
having coalesce(sum(ablation_effects.images), 0) <> ablations.images
