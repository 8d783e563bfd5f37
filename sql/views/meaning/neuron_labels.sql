-- The label of each neuron in each dissection: its best concept, the next one, and whether to believe it.
-- grain: dissection_id, neuron_id
-- materialized: table
--
-- Equal scores go to the concept that stands first in its set. A dead neuron keeps its row, without a label.

with

ranked as (

    select
        soft_wpmi.dissection_id,
        soft_wpmi.neuron_id,
        soft_wpmi.concept_id,
        soft_wpmi.similarity,
        row_number() over (
            partition by soft_wpmi.dissection_id, soft_wpmi.neuron_id
            order by soft_wpmi.similarity desc, concepts.position
        ) as rank
    from soft_wpmi
    inner join concepts on soft_wpmi.concept_id = concepts.concept_id

),

best_two as (

    select
        dissection_id,
        neuron_id,
        max(concept_id) filter (where rank = 1) as concept_id,
        max(similarity) filter (where rank = 1) as similarity,
        max(concept_id) filter (where rank = 2) as runner_up_id,
        max(similarity) filter (where rank = 2) as runner_up_similarity
    from ranked
    where rank <= 2
    group by dissection_id, neuron_id

)

select
    dissected_neurons.dissection_id,
    dissected_neurons.neuron_id,
    dissected_neurons.layer_id,
    best_two.concept_id,
    best_two.similarity,
    best_two.runner_up_id,
    best_two.similarity - best_two.runner_up_similarity as margin,
    coalesce(best_two.similarity > dissections.tau, false) as interpretable,
    dissected_neurons.dead
from dissected_neurons
inner join dissections on dissected_neurons.dissection_id = dissections.dissection_id
left join best_two
    on
        dissected_neurons.dissection_id = best_two.dissection_id
        and dissected_neurons.neuron_id = best_two.neuron_id
