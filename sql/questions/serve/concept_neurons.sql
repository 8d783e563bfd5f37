-- Which neurons carry one concept as their label? The sixty with the highest z.
-- grain: layer, unit
-- parameters: concept

select layer, unit, concept, similarity, z, q, interpretable
from neuron_concepts
where concept = $concept
order by interpretable desc nulls last, z desc nulls last, similarity desc, layer, unit
limit 60
