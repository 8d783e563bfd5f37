-- What does it do to the images of each class if all neurons of one concept give 0?
-- grain: ablation_id, class
-- parameters: concept

select layer, split, class, images, neurons, flips, delta_accuracy, delta_loss, random_delta_loss, excess, p, ablation_id
from concept_effects
where concept = $concept
order by p nulls last, excess desc nulls last, layer, split, class
limit 100
