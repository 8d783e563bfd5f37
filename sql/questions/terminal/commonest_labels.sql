-- Which concepts are the interpretable label of most neurons? At most five.
-- grain: concept

select concept, count(*) as neurons
from neuron_concepts
where interpretable
group by concept
order by neurons desc, concept
limit 5
