-- Cosine cubed (CLIP-Dissect, arXiv 2204.10965) of a neuron's activations and a concept's similarities.
-- grain: dissection_id, neuron_id, concept_id
-- materialized: table by dissection
--
-- Both are centred over the images and cubed, then compared by their cosine. Because of the cubes, the extreme values
-- decide. A length below 0.001 counts as 0.001.
-- z: from the exact mean and variance of the sum over all orders of the images; NULL for a concept that is equally
-- similar to all images, because the sum then has no variance.

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
                    select dissection_id from dissections where scorer = 'cos_cubed' and engine = 'sql'
                )
        )

),

concept_means as (

    select
        dissections.dissection_id,
        image_concept_similarities.concept_id,
        avg(cast(image_concept_similarities.similarity as double)) as mean,
        stddev_pop(image_concept_similarities.similarity) as sd
    from dissections
    inner join concepts on dissections.concept_set_id = concepts.concept_set_id
    inner join image_concept_similarities
        on
            concepts.concept_id = image_concept_similarities.concept_id
            and dissections.clip_id = image_concept_similarities.clip_id
    inner join images
        on
            image_concept_similarities.image_id = images.image_id
            and dissections.split_id = images.split_id
    where dissections.scorer = 'cos_cubed' and dissections.engine = 'sql'
    group by dissections.dissection_id, image_concept_similarities.concept_id

),

centred as (

    select
        dissected_neurons.dissection_id,
        dissected_neurons.neuron_id,
        concept_means.concept_id,
        scored_activations.value - dissected_neurons.mean as activation,
        image_concept_similarities.similarity - concept_means.mean as similarity
    from dissections
    inner join dissected_neurons on dissections.dissection_id = dissected_neurons.dissection_id
    inner join scored_activations on dissected_neurons.neuron_id = scored_activations.neuron_id
    inner join images
        on
            scored_activations.image_id = images.image_id
            and dissections.split_id = images.split_id
    inner join concept_means on dissections.dissection_id = concept_means.dissection_id
    inner join image_concept_similarities
        on
            scored_activations.image_id = image_concept_similarities.image_id
            and concept_means.concept_id = image_concept_similarities.concept_id
            and dissections.clip_id = image_concept_similarities.clip_id
    where
        dissections.scorer = 'cos_cubed'
        and dissections.engine = 'sql'
        and not dissected_neurons.dead
        and not dissected_neurons.sparse

),

cubed as (

    select
        dissection_id,
        neuron_id,
        concept_id,
        activation * activation * activation as activation,
        similarity * similarity * similarity as similarity
    from centred

),

sums as (

    select
        dissection_id,
        neuron_id,
        concept_id,
        count(*) as images,
        sum(activation * similarity) as product,
        greatest(sqrt(sum(activation * activation)), 1e-3) as activation_length,
        greatest(sqrt(sum(similarity * similarity)), 1e-3) as similarity_length,
        corr(activation, similarity) as correlation
    from cubed
    group by dissection_id, neuron_id, concept_id

)

select
    sums.dissection_id,
    sums.neuron_id,
    sums.concept_id,
    sums.product / (sums.activation_length * sums.similarity_length) as similarity,
    case
        when concept_means.sd > 1e-6 * abs(concept_means.mean) then sums.correlation * sqrt(sums.images - 1)
    end as z
from sums
inner join concept_means
    on
        sums.dissection_id = concept_means.dissection_id
        and sums.concept_id = concept_means.concept_id
