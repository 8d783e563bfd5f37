-- How the activations of each neuron are distributed over a probing set.
-- grain: split_id, neuron_id
-- materialized: table
--
-- Everything is computed from the sums, values and top images of blocks, so that no activation is read.
-- distinct_values: counted up to 256; 256 means 256 or more. Block by block, block_values has all values of a neuron or
-- none. If it has none for some block, that block alone has 256 or more.
-- images_fired: images with a value above the lowest one, counted up to 256; 256 means 256 or more. A lowest value
-- that only one image has counts as well.
-- sd: from the mean of the squares. In double precision this loses nothing that float values had, and it takes half
-- the time of a running variance.

with

spreads as (

    select
        split_id,
        neuron_id,
        nd_total(images) as images,
        sum(total) / sum(images) as mean,
        sum(total_squares) / sum(images) as mean_square,
        min(lowest) as lowest,
        max(highest) as highest,
        max(distinct_values) as distinct_in_a_block
    from block_sums
    group by split_id, neuron_id

),

counted as (

    select
        split_id,
        neuron_id,
        count(distinct value) as distinct_values
    from block_values
    group by split_id, neuron_id

),

best as (

    select
        top_activations.split_id,
        top_activations.neuron_id,
        max(spreads.images) as images,
        count(*) as listed,
        count(*) filter (where top_activations.value > spreads.lowest) as above
    from top_activations
    inner join spreads
        on
            top_activations.split_id = spreads.split_id
            and top_activations.neuron_id = spreads.neuron_id
    group by top_activations.split_id, top_activations.neuron_id

)

select
    spreads.split_id,
    spreads.neuron_id,
    spreads.images,
    spreads.mean,
    case
        when spreads.lowest < spreads.highest
            then sqrt(greatest(spreads.mean_square - spreads.mean * spreads.mean, 0))
        else 0
    end as sd,
    spreads.lowest,
    spreads.highest,
    least(greatest(spreads.distinct_in_a_block, coalesce(counted.distinct_values, 0)), 256) as distinct_values,
    case when best.listed = best.images and best.above = best.listed - 1 then best.listed else best.above end as images_fired
from spreads
inner join best
    on
        spreads.neuron_id = best.neuron_id
        and spreads.split_id = best.split_id
left join counted
    on
        spreads.neuron_id = counted.neuron_id
        and spreads.split_id = counted.split_id
