-- Which id has a neuron in the tables?
-- grain: layer, unit
-- parameters: module, unit

select layer, unit, neuron_id
from neuron_order
where layer = $module and unit = $unit
