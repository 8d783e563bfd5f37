-- Which labels mean nearly the same, because CLIP scores the images alike for them? At most 60.
-- grain: leader, concept
--
-- leader: the label of the group that most neurons carry. The groups come in the order of their leaders' neurons.

select leader, concept, correlation, neurons
from concept_groups
qualify count(*) over (partition by leader) > 1
order by max(neurons) over (partition by leader) desc, leader, correlation desc, concept
limit 60
