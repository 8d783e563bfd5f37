-- How the activations of each neuron are distributed over a probing set.
-- grain: split_id, neuron_id
-- materialized: table
--
-- distinct_values: counted up to 256; 256 means 256 or more. Only a neuron whose top images share values can have
-- fewer, and only the values of such neurons are counted.
-- images_fired: images with a value above the lowest one, counted up to 256; 256 means 256 or more. A lowest value
-- that only one image has counts as well.
-- sd: from the mean of the squares. In double precision this loses nothing that float values had, and it takes half
-- the time of a running variance.

with

of_activations as (

    -- The neurons are selected first, because a join might pair every image with every neuron.
    select
        images.split_id,
        activations.neuron_id,
        count(*) as images,
        sum(cast(activations.value as double)) as total,
        sum(cast(activations.value as double) * activations.value) as total_squares,
        min(activations.value) as lowest,
        max(activations.value) as highest
    from activations
    inner join images on activations.image_id = images.image_id
    where activations.neuron_id in (select neuron_id from unsummed_neurons)
    group by images.split_id, activations.neuron_id

),

sums as (

    select
        block_sums.split_id,
        block_sums.neuron_id,
        block_sums.images,
        block_sums.total,
        block_sums.total_squares,
        block_sums.lowest,
        block_sums.highest
    from block_sums
    inner join summed_neurons
        on
            block_sums.split_id = summed_neurons.split_id
            and block_sums.neuron_id = summed_neurons.neuron_id
    union all
    select
        of_activations.split_id,
        of_activations.neuron_id,
        of_activations.images,
        of_activations.total,
        of_activations.total_squares,
        of_activations.lowest,
        of_activations.highest
    from of_activations
    inner join unsummed_neurons
        on
            of_activations.split_id = unsummed_neurons.split_id
            and of_activations.neuron_id = unsummed_neurons.neuron_id

),

spreads as (

    select
        split_id,
        neuron_id,
        nd_total(images) as images,
        sum(total) / sum(images) as mean,
        sum(total_squares) / sum(images) as mean_square,
        min(lowest) as lowest,
        max(highest) as highest
    from sums
    group by split_id, neuron_id

),

best as (

    select
        top_activations.split_id,
        top_activations.neuron_id,
        max(spreads.images) as images,
        count(*) as listed,
        count(*) filter (where top_activations.value > spreads.lowest) as above,
        count(distinct top_activations.value) as different
    from top_activations
    inner join spreads
        on
            top_activations.split_id = spreads.split_id
            and top_activations.neuron_id = spreads.neuron_id
    group by top_activations.split_id, top_activations.neuron_id

),

tied_neurons as (

    select split_id, neuron_id
    from best
    where different < 256

),

many_valued as (

    -- These have 256 or more different values in a single block.
    select distinct split_id, neuron_id
    from block_sums
    where distinct_values >= 256

),

tied_unsummed as (

    select tied_neurons.split_id, tied_neurons.neuron_id
    from tied_neurons
    inner join unsummed_neurons
        on
            tied_neurons.split_id = unsummed_neurons.split_id
            and tied_neurons.neuron_id = unsummed_neurons.neuron_id

),

tied_activations as (

    -- A separate step, because a join might keep all activations in memory.
    select neuron_id, image_id, value
    from activations
    where neuron_id in (select neuron_id from tied_unsummed)

),

tied_values as (

    select
        tied_neurons.split_id,
        tied_neurons.neuron_id,
        block_values.value
    from tied_neurons
    inner join summed_neurons
        on
            tied_neurons.split_id = summed_neurons.split_id
            and tied_neurons.neuron_id = summed_neurons.neuron_id
    inner join block_values
        on
            tied_neurons.split_id = block_values.split_id
            and tied_neurons.neuron_id = block_values.neuron_id
    left join many_valued
        on
            tied_neurons.split_id = many_valued.split_id
            and tied_neurons.neuron_id = many_valued.neuron_id
    where many_valued.neuron_id is null
    union all
    select
        tied_unsummed.split_id,
        tied_unsummed.neuron_id,
        tied_activations.value
    from tied_activations
    inner join images on tied_activations.image_id = images.image_id
    inner join tied_unsummed
        on
            images.split_id = tied_unsummed.split_id
            and tied_activations.neuron_id = tied_unsummed.neuron_id

),

counted as (

    select split_id, neuron_id, count(distinct value) as distinct_values
    from tied_values
    group by split_id, neuron_id

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
    least(coalesce(counted.distinct_values, 256), 256) as distinct_values,
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
