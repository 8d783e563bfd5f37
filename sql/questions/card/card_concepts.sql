-- Which five concepts fit one neuron best?
-- grain: layer, unit, rank
-- parameters: module, unit

select layer, unit, rank, concept, similarity
from similarity_rankings
where layer = $module and unit = $unit and rank <= 5
order by rank
