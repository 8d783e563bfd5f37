-- A row is a scale that is negative, NaN or infinite; zero is allowed, it silences a neuron.

select edit_id, neuron_id, scale
from edit_scales
where not isfinite(scale) or scale < 0
