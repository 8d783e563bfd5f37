-- Mean and variance of the log-likelihood of soft_wpmi or wpmi for a neuron unrelated to the images.
-- grain: dissection_id, list_images, concept_id
-- materialized: table by dissection
--
-- The top images of such a neuron are a random ordered sample of list_images of all N images, without repeats. There
-- is a row for lists of top_k images, and for each shorter length that a neuron of the dissection has. With the gain
-- g_r(i) = ln(1 + p_r (P - 1) + 1e-7) of image i at rank r,
--   mean = sum over r of mean g_r;
--   variance = sum over r of var g_r - (var of sum over r of g_r - sum over r of var g_r) / (N - 1).
-- A variance that is only rounding error, as for the only concept of a set, is set to 0.

with

known_ranks as (

    select distinct split_id, rank
    from top_activations

),

asked as (

    select dissection_id, list_images
    from dissected_neurons
    where not dead and not sparse
    union all
    select dissection_id, top_k as list_images
    from dissections

),

lengths as (

    select distinct dissection_id, list_images
    from asked

),

ranks as (

    select
        dissections.dissection_id,
        lengths.list_images,
        known_ranks.rank,
        dissections.p_first
        - (known_ranks.rank - 1) / lengths.list_images * (dissections.p_first - dissections.p_last) as weight
    from dissections
    inner join lengths on dissections.dissection_id = lengths.dissection_id
    inner join known_ranks
        on
            dissections.split_id = known_ranks.split_id
            and lengths.list_images >= known_ranks.rank
    where dissections.scorer in ('soft_wpmi', 'wpmi') and dissections.engine = 'sql'

),

gains as (

    select
        ranks.dissection_id,
        ranks.list_images,
        ranks.rank,
        image_concept_probabilities.image_id,
        image_concept_probabilities.concept_id,
        ln(1 + ranks.weight * (image_concept_probabilities.probability - 1) + 1e-7) as gain
    from ranks
    inner join image_concept_probabilities
        on ranks.dissection_id = image_concept_probabilities.dissection_id

),

by_rank as (

    select
        dissection_id,
        list_images,
        concept_id,
        avg(gain) as mean,
        var_pop(gain) as variance
    from gains
    group by dissection_id, list_images, concept_id, rank

),

over_ranks as (

    select
        dissection_id,
        list_images,
        concept_id,
        sum(mean) as mean,
        sum(variance) as variance
    from by_rank
    group by dissection_id, list_images, concept_id

),

by_image as (

    select
        dissection_id,
        list_images,
        concept_id,
        sum(gain) as gain
    from gains
    group by dissection_id, list_images, concept_id, image_id

),

over_images as (

    select
        dissection_id,
        list_images,
        concept_id,
        count(*) as images,
        var_pop(gain) as variance
    from by_image
    group by dissection_id, list_images, concept_id

),

moments as (

    select
        over_ranks.dissection_id,
        over_ranks.list_images,
        over_ranks.concept_id,
        over_ranks.mean,
        over_ranks.variance
        - (over_images.variance - over_ranks.variance) / nullif(over_images.images - 1, 0) as variance
    from over_ranks
    inner join over_images
        on
            over_ranks.dissection_id = over_images.dissection_id
            and over_ranks.list_images = over_images.list_images
            and over_ranks.concept_id = over_images.concept_id

)

select
    dissection_id,
    list_images,
    concept_id,
    mean,
    case when variance > 1e-20 * mean * mean then variance else 0 end as variance
from moments
