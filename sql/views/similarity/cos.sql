-- Cosine (CLIP-Dissect, arXiv 2204.10965) of a neuron's activations and a concept's similarities.
-- grain: dissection_id, neuron_id, concept_id
-- materialized: table by dissection
--
-- Over all images; the values are not centred.
-- z: from the exact mean and variance of the sum of products over all orders of the images; NULL for a concept that is
-- equally similar to all images, because the sum then has no variance.

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
                    select dissection_id from dissections where scorer = 'cos' and engine = 'sql'
                )
        )

),

sums as (

    select
        dissected_neurons.dissection_id,
        dissected_neurons.neuron_id,
        image_concept_similarities.concept_id,
        count(*) as images,
        sum(cast(scored_activations.value as double) * image_concept_similarities.similarity) as product,
        sum(cast(scored_activations.value as double) * scored_activations.value) as activation_square,
        sum(cast(image_concept_similarities.similarity as double) * image_concept_similarities.similarity)
            as similarity_square,
        case
            when
                stddev_pop(image_concept_similarities.similarity)
                > 1e-6 * abs(avg(image_concept_similarities.similarity))
                then corr(scored_activations.value, image_concept_similarities.similarity)
        end as correlation
    from dissections
    inner join dissected_neurons on dissections.dissection_id = dissected_neurons.dissection_id
    inner join scored_activations on dissected_neurons.neuron_id = scored_activations.neuron_id
    inner join images
        on
            scored_activations.image_id = images.image_id
            and dissections.split_id = images.split_id
    inner join concepts on dissections.concept_set_id = concepts.concept_set_id
    inner join image_concept_similarities
        on
            scored_activations.image_id = image_concept_similarities.image_id
            and concepts.concept_id = image_concept_similarities.concept_id
            and dissections.clip_id = image_concept_similarities.clip_id
    where
        dissections.scorer = 'cos'
        and dissections.engine = 'sql'
        and not dissected_neurons.dead
        and not dissected_neurons.sparse
    group by
        dissected_neurons.dissection_id,
        dissected_neurons.neuron_id,
        image_concept_similarities.concept_id

)

select
    dissection_id,
    neuron_id,
    concept_id,
    coalesce(product / nullif(sqrt(activation_square * similarity_square), 0), 0) as similarity,
    correlation * sqrt(images - 1) as z
from sums
