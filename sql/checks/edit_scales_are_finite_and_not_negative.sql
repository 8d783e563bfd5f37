-- A row is a scale of weights or biases that is negative, NaN or infinite. Zero is allowed: it silences a neuron.

select edit_id, neuron_id, scale, bias_scale
from edit_scales
where
    not isfinite(scale)
    or scale < 0
    or not isfinite(bias_scale)
    or bias_scale < 0
