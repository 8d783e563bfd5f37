-- Which single neuron does each class need most? Silencing it raises the loss of the class most.
-- grain: layer, unit, class, images

select layer, unit, concept, class, delta_loss, loss_low, loss_high, delta_accuracy, flips, images
from neuron_effects
where class is not null
qualify row_number() over (partition by layer, split, class order by delta_loss desc, unit) = 1
order by layer, class
