-- Which concepts does each class need most? Silencing their neurons raises its loss more than random ones; two per class.
-- grain: layer, class, concept, images

select layer, class, concept, neurons, delta_loss, random_delta_loss, p, delta_accuracy, excess, images
from concept_effects
where delta_loss > 0
qualify row_number() over (partition by layer, split, class order by excess desc nulls last, concept) <= 2
order by layer, class, excess desc
