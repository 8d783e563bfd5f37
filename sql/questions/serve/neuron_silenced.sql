-- What does it do to the images of each class if one neuron gives 0? The class NULL stands for all of them.
-- grain: split, class
-- parameters: module, unit

select split, class, images, flips, delta_accuracy, low, high, delta_loss, loss_low, loss_high
from neuron_effects
where layer = $module and unit = $unit
order by split, class nulls first
limit 200
