-- Which concepts label most interpretable neurons, over all layers? The first twenty.
-- grain: concept

select concept, count(*) as neurons, count(distinct layer) as layers
from neuron_concepts
where interpretable and concept is not null
group by concept
order by neurons desc, concept
limit 20
