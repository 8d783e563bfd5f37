-- The neurons that each dissection looks at, which of them are dead or too sparse, and how many images score each.
-- grain: dissection_id, neuron_id
-- materialized: table
--
-- A dead neuron is constant over the probing set. A sparse one varies, but fewer than min_images images can score it.
-- Both are kept, marked, and take no label.
-- A neuron fires on an image where its value is above its lowest. images_fired says 256 for "that many or more".
-- list_images: soft_wpmi and wpmi look at this many best images, rank_reorder too where it is below 256. It is at most
-- images_fired; one below the scorer's limit is rounded down to four binary digits (…, 14, 15, 16, 18, …, 30, 32,
-- 36, …), so that neurons share their nulls. The other scorers look at all images; for them it only says which neurons
-- share a null. A neuron of fewer different values than top_k may tie at the end of its list: an order by image id
-- would pick among the equal images, so that none of them is taken.
-- A module that was recorded with several poolings is several layers, and all of them count.

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

    -- The longest list that the scorer asks for, as far as the best images are known.
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

    -- Of each best image of such a neuron: how many are better, and how many as good, itself included.
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

    -- 256 known images that tie may have more like them.
    select
        looked_at.dissection_id,
        looked_at.neuron_id,
        looked_at.layer_id,
        looked_at.scorer,
        looked_at.min_images,
        looked_at.mean,
        looked_at.sd,
        looked_at.images_fired,
        looked_at.most,
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

)

select
    dissection_id,
    neuron_id,
    layer_id,
    mean,
    sd,
    sd = 0 as dead,
    sd > 0 and list_images < case when scorer = 'rank_reorder' then least(min_images, most) else min_images end
        as sparse,
    images_fired,
    list_images
from rounded
