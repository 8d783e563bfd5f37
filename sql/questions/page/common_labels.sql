-- Which labels do most neurons carry, of those whose label chance does not explain?
-- grain: concept
--
-- The three commonest over all layers; num_concepts counts all. If no null was drawn: labels of interpretable neurons.

select
    concept,
    count(*) as neurons,
    count(*) over () as num_concepts
from neuron_concepts
where concept is not null and case when p is null then interpretable else calibrated end
group by concept
order by neurons desc, concept
limit 3
