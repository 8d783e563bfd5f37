-- How many neurons of each layer keep their label from A to B? At most 1,000: the chart draws three points per layer.
-- grain: layer
-- parameters: a, b

select *
from layer_changes
where dissection_id = $a and other_dissection_id = $b
order by position, layer
limit 1000
