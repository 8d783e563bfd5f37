-- Which other neurons have the same label? The twelve with the highest z.
-- grain: layer, unit
-- parameters: module, unit, label

select layer, unit, concept, similarity, z, q, interpretable
from neuron_concepts
where concept = $label and (layer <> $module or unit <> $unit)
order by z desc nulls last, similarity desc, layer, unit
limit 12
