-- The neurons of each dissection: which are dead or sparse, and how many images are used to score each.
-- grain: dissection_id, neuron_id
-- materialized: table
--
-- A dead neuron has the same value on all images of the probing set. A sparse neuron varies, but fewer than min_images
-- images can be used to score it. Both keep their row, are marked, and get no label.
-- A neuron fires on an image if its value there is above its lowest value. images_fired: counted up to 256; 256 means
-- 256 or more.
-- list_images: soft_wpmi and wpmi score a neuron by this many top images; rank_reorder does too if it is below 256.
-- The other scorers use all images. It is at most images_fired. If it is below the scorer's limit, it is rounded down
-- to four binary digits (…, 14, 15, 16, 18, …, 30, 32, 36, …), so that neurons share their nulls.
-- If a neuron has fewer different values than top_k, the images at the end of its list may be equal. Only the image id
-- would then decide which of them are used, so none of them is. tied: the neuron fires on enough images and is sparse
-- only because equal images were left out.
-- null_group: neurons of a layer with the same null_group share a null. For soft_wpmi and wpmi it is list_images. The
-- other nulls also depend on how the values are distributed. A neuron is ordinary if it fires on at least 256 images
-- (or on all) and if its kurtosis is below 6 or its effective number of images, N / kurtosis, is 512 or more. For
-- cos_cubed, its cubes must have an effective number of N / 100 or more too (of normal values it is N / 46), because one
-- image may decide their sum; of at most 256 images, all are stored, and none is taken for ordinary. The group of
-- ordinary neurons is the longest list. Other neurons are grouped by 1000 times the rounded effective number
-- of the values that are multiplied (for cos_cubed, of their cubes). For rank_reorder this is the effective number of
-- the cubes of the listed values, and list_images is added.
-- The fourth moment is computed from the 256 top images. The remaining images count as two-valued, with their exact
-- mean and variance and the 256th value as the higher one. This is exact if a neuron fires on fewer images or has only
-- two values.
-- A module that was recorded with several poolings is several layers, and each of them is dissected.

with

recorded as (

    select distinct
        finished_extractions.split_id,
        layers.network_id,
        layers.layer_id
    from finished_extractions
    inner join layers on finished_extractions.layer_id = layers.layer_id
    where finished_extractions.target = 'activations'

),

limits as (

    -- The longest list that the scorer uses; only the 256 top images are stored.
    select
        dissections.dissection_id,
        case
            when dissections.scorer in ('soft_wpmi', 'wpmi') then least(dissections.top_k, count(*))
            when dissections.scorer = 'rank_reorder' then least(floor(dissections.rank_fraction * count(*)), 256)
            else least(256, count(*))
        end as most
    from dissections
    inner join images on dissections.split_id = images.split_id
    where images.defect is null
    group by dissections.dissection_id, dissections.scorer, dissections.top_k, dissections.rank_fraction

),

looked_at as (

    select
        dissections.dissection_id,
        dissections.split_id,
        dissections.min_images,
        dissections.scorer,
        neurons.neuron_id,
        neurons.layer_id,
        neuron_statistics.mean,
        neuron_statistics.sd,
        neuron_statistics.images,
        neuron_statistics.images_fired,
        limits.most,
        least(limits.most, neuron_statistics.images_fired) as listed,
        neuron_statistics.distinct_values < dissections.top_k
        and dissections.scorer in ('soft_wpmi', 'wpmi', 'rank_reorder') as few_valued
    from dissections
    inner join limits on dissections.dissection_id = limits.dissection_id
    inner join recorded
        on
            dissections.network_id = recorded.network_id
            and dissections.split_id = recorded.split_id
    inner join neurons on recorded.layer_id = neurons.layer_id
    inner join neuron_statistics
        on
            neurons.neuron_id = neuron_statistics.neuron_id
            and dissections.split_id = neuron_statistics.split_id

),

few_valued_neurons as (

    select distinct neuron_id
    from looked_at
    where few_valued

),

ties as (

    -- For each top image of such a neuron: how many have a higher value, and how many the same, itself included.
    select
        split_id,
        neuron_id,
        rank,
        min(rank) over (partition by split_id, neuron_id, value) - 1 as better,
        count(*) over (partition by split_id, neuron_id, value) as equal
    from top_activations
    where neuron_id in (select neuron_id from few_valued_neurons)

),

untied as (

    -- If the 256th stored image is in a tie, images beyond the stored ones may be in it too.
    select
        looked_at.split_id,
        looked_at.images,
        looked_at.dissection_id,
        looked_at.neuron_id,
        looked_at.layer_id,
        looked_at.scorer,
        looked_at.min_images,
        looked_at.mean,
        looked_at.sd,
        looked_at.images_fired,
        looked_at.most,
        looked_at.listed,
        case
            when ties.rank is null then looked_at.listed
            when ties.better + ties.equal = looked_at.listed and (looked_at.listed < 256 or looked_at.images <= 256)
                then looked_at.listed
            else ties.better
        end as usable
    from looked_at
    left join ties
        on
            looked_at.few_valued
            and looked_at.split_id = ties.split_id
            and looked_at.neuron_id = ties.neuron_id
            and looked_at.listed = ties.rank

),

rounded as (

    select
        *,
        case
            when usable = most or usable < 16 then usable
            when usable < 32 then 2 * floor(usable / 2)
            when usable < 64 then 4 * floor(usable / 4)
            when usable < 128 then 8 * floor(usable / 8)
            else 16 * floor(usable / 16)
        end as list_images
    from untied

),

standardised as (

    select
        top_activations.split_id,
        top_activations.neuron_id,
        top_activations.rank,
        (cast(top_activations.value as double) - neuron_statistics.mean) / neuron_statistics.sd as value
    from top_activations
    inner join neuron_statistics
        on
            top_activations.neuron_id = neuron_statistics.neuron_id
            and top_activations.split_id = neuron_statistics.split_id
    where neuron_statistics.sd > 0

),

best as (

    select
        split_id,
        neuron_id,
        count(*) as known,
        min(value) as last,
        sum(value) as sum_1,
        sum(value * value) as sum_2,
        sum(value * value * value) as sum_3,
        sum(value * value * value * value) as sum_4,
        sum(value * value * value * value * value * value) as sum_6,
        sum(value * value * value * value * value * value * value * value * value) as sum_9,
        sum(value * value * value * value * value * value * value * value * value * value * value * value) as sum_12
    from standardised
    group by split_id, neuron_id

),

others as (

    -- The images that are not among the top images: their number, mean and variance.
    select
        best.*,
        neuron_statistics.images,
        neuron_statistics.images - best.known as unknown,
        -best.sum_1 / nullif(neuron_statistics.images - best.known, 0) as mean,
        greatest(
            (neuron_statistics.images - best.sum_2) / nullif(neuron_statistics.images - best.known, 0)
            - best.sum_1 * best.sum_1 / nullif(neuron_statistics.images - best.known, 0)
            / nullif(neuron_statistics.images - best.known, 0),
            0
        ) as variance
    from best
    inner join neuron_statistics
        on
            best.neuron_id = neuron_statistics.neuron_id
            and best.split_id = neuron_statistics.split_id

),

two_valued as (

    -- high: how many of them count with the value of the last stored image; low: the value of the rest.
    select
        *,
        coalesce(
            unknown * variance / nullif(variance + (last - mean) * (last - mean), 0),
            0
        ) as high,
        coalesce(mean - variance / nullif(last - mean, 0), mean, 0) as low
    from others

),

spread as (

    select
        split_id,
        neuron_id,
        images,
        sum_4 + high * power(last, 4) + (unknown - high) * power(low, 4) as fourth,
        (sum_3 + high * power(last, 3) + (unknown - high) * power(low, 3)) / images as cube_mean,
        (sum_6 + high * power(last, 6) + (unknown - high) * power(low, 6)) / images as cube_2,
        (sum_9 + high * power(last, 9) + (unknown - high) * power(low, 9)) / images as cube_3,
        (sum_12 + high * power(last, 12) + (unknown - high) * power(low, 12)) / images as cube_4
    from two_valued

),

listed_cubes as (

    -- For rank_reorder, whose score is a sum of cubed distances.
    select
        rounded.dissection_id,
        rounded.neuron_id,
        sum(power(standardised.value - ends.value, 3)) * sum(power(standardised.value - ends.value, 3))
        / nullif(sum(power(standardised.value - ends.value, 6)), 0) as effective
    from rounded
    inner join standardised
        on
            rounded.neuron_id = standardised.neuron_id
            and rounded.split_id = standardised.split_id
            and rounded.list_images >= standardised.rank
    inner join standardised as ends
        on
            rounded.neuron_id = ends.neuron_id
            and rounded.split_id = ends.split_id
            and rounded.list_images = ends.rank
    where rounded.scorer = 'rank_reorder'
    group by rounded.dissection_id, rounded.neuron_id

),

effective as (

    select
        rounded.*,
        rounded.images_fired >= least(rounded.images, 256)
        and (6 * spread.images >= spread.fourth or 512 * spread.fourth <= spread.images * spread.images)
            as has_usual_values,
        case
            when rounded.scorer = 'cos_cubed'
                then
                    spread.images * power(spread.cube_2 - spread.cube_mean * spread.cube_mean, 2)
                    / nullif(
                        spread.cube_4 - 4 * spread.cube_mean * spread.cube_3
                        + 6 * spread.cube_mean * spread.cube_mean * spread.cube_2 - 3 * power(spread.cube_mean, 4),
                        0
                    )
            when rounded.scorer = 'rank_reorder' then listed_cubes.effective
            else spread.images / nullif(spread.fourth, 0) * spread.images
        end + 1e-6 as effective_images
    from rounded
    left join spread
        on
            rounded.neuron_id = spread.neuron_id
            and rounded.split_id = spread.split_id
    left join listed_cubes
        on
            rounded.dissection_id = listed_cubes.dissection_id
            and rounded.neuron_id = listed_cubes.neuron_id

),

grouped as (

    select
        *,
        has_usual_values
        and (scorer <> 'cos_cubed' or (images > 256 and 100 * effective_images >= images)) as ordinary,
        case
            when effective_images is null then 0  -- all values of the list are equal
            when effective_images < 16 then floor(effective_images)
            when effective_images < 32 then 2 * floor(effective_images / 2)
            when effective_images < 64 then 4 * floor(effective_images / 4)
            when effective_images < 128 then 8 * floor(effective_images / 8)
            when effective_images < 256 then 16 * floor(effective_images / 16)
            else 32 * floor(least(effective_images, 512) / 32)
        end as like_images,
        case when scorer = 'rank_reorder' then least(min_images, most) else min_images end as least_images
    from effective

)

select
    dissection_id,
    neuron_id,
    layer_id,
    mean,
    sd,
    sd = 0 as dead,
    sd > 0 and usable < least_images as sparse,
    sd > 0 and usable < least_images and listed >= least_images as tied,
    images_fired,
    list_images,
    case
        when scorer in ('soft_wpmi', 'wpmi') then list_images
        when scorer = 'rank_reorder' and ordinary and usable = most then list_images
        when scorer = 'rank_reorder' then 1000 * like_images + list_images
        when ordinary then most
        else 1000 * like_images
    end as null_group
from grouped
