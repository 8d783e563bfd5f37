-- Which labels mean nearly the same, because CLIP gives the images similar scores for them? At most 60.
-- grain: leader, concept
--
-- leader: the label of the group that most neurons carry. The groups come in the order of their leaders' neurons.

with

sized as (

    select
        leader,
        concept,
        correlation,
        neurons,
        count(*) over (partition by leader) as labels_of_group,
        max(neurons) over (partition by leader) as neurons_of_leader
    from concept_groups

)

select leader, concept, correlation, neurons
from sized
where labels_of_group > 1
order by neurons_of_leader desc, leader, correlation desc, concept
limit 60
