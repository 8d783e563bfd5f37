-- Pearson correlation, over all images, of a neuron's activations and a concept's presence.
-- grain: dissection_id, neuron_id, concept_id
-- materialized: table by dissection
--
-- z = r √N, because r has the standard deviation 1 / √N for a neuron that is unrelated to the images. A concept with
-- the same presence for all images has r = 0 and no z.

with

scored_activations as (

    -- Selected before the joins: the engine does not know how few these are, and would join all activations first.
    select neuron_id, image_id, value
    from activations
    where
        neuron_id in (
            select neuron_id
            from dissected_neurons
            where
                not dead
                and not sparse
                and dissection_id in (
                    select dissection_id from dissections where scorer = 'presence' and engine = 'sql'
                )
        )

),

correlations as (

    select
        dissected_neurons.dissection_id,
        dissected_neurons.neuron_id,
        image_concept_presences.concept_id,
        count(*) as images,
        case
            when
                stddev_pop(image_concept_presences.presence)
                > 1e-6 * avg(image_concept_presences.presence)
                then corr(scored_activations.value, image_concept_presences.presence)
        end as correlation
    from dissections
    inner join dissected_neurons on dissections.dissection_id = dissected_neurons.dissection_id
    inner join scored_activations on dissected_neurons.neuron_id = scored_activations.neuron_id
    inner join image_concept_presences
        on
            scored_activations.image_id = image_concept_presences.image_id
            and dissections.dissection_id = image_concept_presences.dissection_id
    where
        dissections.scorer = 'presence'
        and dissections.engine = 'sql'
        and not dissected_neurons.dead
        and not dissected_neurons.sparse
    group by
        dissected_neurons.dissection_id,
        dissected_neurons.neuron_id,
        image_concept_presences.concept_id

)

select
    dissection_id,
    neuron_id,
    concept_id,
    coalesce(correlation, 0) as similarity,
    correlation * sqrt(images) as z
from correlations
