-- Rank reorder (CLIP-Dissect, arXiv 2204.10965) of a neuron and a concept, over the neuron's top images.
-- grain: dissection_id, neuron_id, concept_id
-- materialized: table by dissection
--
-- It measures how little the activations change if the top images are reordered by their similarity to the concept.
-- error = mean of |v - v reordered|^p over the n top images; chance = the same for random orders; similarity = -error
-- / chance / (mean cosine)^q. If the mean cosine of a concept is not above 0, it has no score (the original gives
-- NaN). A neuron whose top images are all equally active has no scores.
-- A neuron that fires on fewer than n images is scored over list_images of dissected_neurons, which is at most 256.
-- z: from the scores of random images, which are sampled for each layer and null_group.

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
                    select dissection_id from dissections where scorer = 'rank_reorder' and engine = 'sql'
                )
        )

),

sizes as (

    select
        dissections.dissection_id,
        dissections.split_id,
        dissections.clip_id,
        dissections.concept_set_id,
        dissections.rank_power,
        dissections.rank_scale,
        floor(dissections.rank_fraction * count(*)) as n
    from dissections
    inner join images on dissections.split_id = images.split_id
    where dissections.scorer = 'rank_reorder' and dissections.engine = 'sql' and images.defect is null
    group by
        dissections.dissection_id,
        dissections.split_id,
        dissections.clip_id,
        dissections.concept_set_id,
        dissections.rank_power,
        dissections.rank_scale,
        dissections.rank_fraction

),

ranked as (

    select
        sizes.dissection_id,
        sizes.split_id,
        sizes.n as most,
        dissected_neurons.neuron_id,
        dissected_neurons.list_images,
        scored_activations.image_id,
        cast(scored_activations.value as double) as activation,
        row_number() over (
            partition by sizes.dissection_id, dissected_neurons.neuron_id
            order by scored_activations.value desc, scored_activations.image_id
        ) as rank
    from sizes
    inner join dissected_neurons on sizes.dissection_id = dissected_neurons.dissection_id
    inner join scored_activations on dissected_neurons.neuron_id = scored_activations.neuron_id
    inner join images
        on
            scored_activations.image_id = images.image_id
            and sizes.split_id = images.split_id
    where not dissected_neurons.dead and not dissected_neurons.sparse

),

lengths as (

    -- list_images is at most 256, but a neuron that fires on its n-th top image uses all n.
    select
        ranked.dissection_id,
        ranked.neuron_id,
        case
            when ranked.list_images = least(ranked.most, 256) and ranked.activation > neuron_statistics.lowest
                then ranked.most
            when ranked.list_images = ranked.most then ranked.most
            else ranked.list_images
        end as n
    from ranked
    inner join neuron_statistics
        on
            ranked.neuron_id = neuron_statistics.neuron_id
            and ranked.split_id = neuron_statistics.split_id
    where ranked.rank = ranked.most

),

best as (

    -- Position 0 is the least active of the n images. On a scale from 0 to 1
    -- no power overflows, and error / chance is the same.
    select
        ranked.dissection_id,
        ranked.neuron_id,
        ranked.image_id,
        lengths.n,
        lengths.n - ranked.rank as place,
        (ranked.activation - min(ranked.activation) over (partition by ranked.dissection_id, ranked.neuron_id))
        / nullif(
            max(ranked.activation) over (partition by ranked.dissection_id, ranked.neuron_id)
            - min(ranked.activation) over (partition by ranked.dissection_id, ranked.neuron_id),
            0
        ) as value
    from ranked
    inner join lengths
        on
            ranked.dissection_id = lengths.dissection_id
            and ranked.neuron_id = lengths.neuron_id
    where ranked.rank <= lengths.n

),

permutations as (

    -- The stored orders are for the longest list. A shorter list uses the positions that it has, in the same order.
    select
        rank_permutations.dissection_id,
        different_lengths.n,
        rank_permutations.permutation,
        rank_permutations.taken,
        row_number() over (
            partition by rank_permutations.dissection_id, different_lengths.n, rank_permutations.permutation
            order by rank_permutations.place
        ) - 1 as place
    from rank_permutations
    inner join (select distinct dissection_id, n from lengths) as different_lengths
        on
            rank_permutations.dissection_id = different_lengths.dissection_id
            and rank_permutations.taken < different_lengths.n

),

chances as (

    -- The mean error of a random order, over the stored permutations and positions.
    select
        best.dissection_id,
        best.neuron_id,
        avg(pow(abs(best.value - permuted.value), sizes.rank_power)) as chance
    from best
    inner join sizes on best.dissection_id = sizes.dissection_id
    inner join permutations
        on
            best.dissection_id = permutations.dissection_id
            and best.n = permutations.n
            and best.place = permutations.place
    inner join best as permuted
        on
            best.dissection_id = permuted.dissection_id
            and best.neuron_id = permuted.neuron_id
            and permutations.taken = permuted.place
    group by best.dissection_id, best.neuron_id

),

by_concept as (

    select
        best.dissection_id,
        best.neuron_id,
        concepts.concept_id,
        best.value,
        image_concept_similarities.similarity,
        -- The least similar image gets the lowest activation. Among equally similar ones, the most active gets it.
        row_number() over (
            partition by best.dissection_id, best.neuron_id, concepts.concept_id
            order by image_concept_similarities.similarity, best.place desc
        ) - 1 as new_place
    from best
    inner join sizes on best.dissection_id = sizes.dissection_id
    inner join concepts on sizes.concept_set_id = concepts.concept_set_id
    inner join image_concept_similarities
        on
            best.image_id = image_concept_similarities.image_id
            and concepts.concept_id = image_concept_similarities.concept_id
            and sizes.clip_id = image_concept_similarities.clip_id

),

errors as (

    select
        by_concept.dissection_id,
        by_concept.neuron_id,
        by_concept.concept_id,
        avg(pow(abs(by_concept.value - reordered.value), sizes.rank_power)) as error,
        avg(cast(by_concept.similarity as double)) as mean_cosine
    from by_concept
    inner join sizes on by_concept.dissection_id = sizes.dissection_id
    inner join best as reordered
        on
            by_concept.dissection_id = reordered.dissection_id
            and by_concept.neuron_id = reordered.neuron_id
            and by_concept.new_place = reordered.place
    group by by_concept.dissection_id, by_concept.neuron_id, by_concept.concept_id

),

scored as (

    -- With a power of 0 the mean cosine has no effect, whatever its sign.
    select
        errors.dissection_id,
        errors.neuron_id,
        errors.concept_id,
        -errors.error / chances.chance / pow(errors.mean_cosine, sizes.rank_scale) as similarity
    from errors
    inner join sizes on errors.dissection_id = sizes.dissection_id
    inner join chances
        on
            errors.dissection_id = chances.dissection_id
            and errors.neuron_id = chances.neuron_id
    where chances.chance > 0 and (errors.mean_cosine > 0 or sizes.rank_scale = 0)

)

select
    scored.dissection_id,
    scored.neuron_id,
    scored.concept_id,
    scored.similarity,
    (scored.similarity - null_samples.mean) / nullif(null_samples.sd, 0) as z
from scored
inner join dissected_neurons
    on
        scored.dissection_id = dissected_neurons.dissection_id
        and scored.neuron_id = dissected_neurons.neuron_id
left join null_samples
    on
        scored.dissection_id = null_samples.dissection_id
        and scored.concept_id = null_samples.concept_id
        and dissected_neurons.layer_id = null_samples.layer_id
        and dissected_neurons.null_group = null_samples.null_group
