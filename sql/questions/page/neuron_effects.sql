-- Which single neurons does each class need most? Silencing them raises the loss of the class.
-- grain: layer, unit, class, split
--
-- Three neurons of each layer, split and class; at most 200 in all.

with

strongest as (

    select layer, unit, concept, class, split, delta_accuracy, delta_loss, loss_low, loss_high, flips, images
    from neuron_effects
    where class is not null and delta_loss > 0
    qualify row_number() over (partition by layer, split, class order by delta_loss desc, unit) <= 3

)

select *
from strongest
order by layer, split, class, delta_loss desc
limit 200
