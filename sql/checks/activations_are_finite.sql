-- A row is a neuron with activations that are NULL, NaN or infinite: they would be sorted to the top of its images.
-- cheap: no

select neuron_id, count(*) as activations
from activations
where value is null or not isfinite(value)
group by neuron_id
