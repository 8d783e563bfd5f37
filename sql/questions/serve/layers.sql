-- How much of each layer is interpretable, by either rule?
-- grain: layer

select *
from layer_summary
order by position, layer
limit 1000
