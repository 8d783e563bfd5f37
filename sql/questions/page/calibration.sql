-- How far does the z of the labels lie from what chance alone gives? At most 24 layers, those nearest the output.
-- grain: layer, low

select layer, position, low, high, neurons, expected
from calibration_histogram
qualify dense_rank() over (order by position desc, layer) <= 24
order by position, layer, low
