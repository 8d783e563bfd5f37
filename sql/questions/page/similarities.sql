-- How similar are the labels of each layer, as a histogram? At most 24 layers, those nearest the output.
-- grain: layer, low

select layer, position, low, high, neurons
from similarity_histogram
qualify dense_rank() over (order by position desc, layer) <= 24
order by position, layer, low
