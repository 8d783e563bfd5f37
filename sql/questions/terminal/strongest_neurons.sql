-- Which neuron of each layer has the strongest label? At most eight layers.
-- grain: layer

with

strongest as (

    select layer, unit, concept, similarity, runner_up, margin, z, q, calibrated
    from neuron_concepts
    where calibrated or interpretable
    qualify
        row_number() over (
            partition by layer
            order by calibrated desc, z desc nulls last, similarity desc, unit
        ) = 1

)

select layer, unit, concept, z, q, similarity, runner_up, margin
from strongest
order by calibrated desc, z desc nulls last, similarity desc, layer
limit 8
