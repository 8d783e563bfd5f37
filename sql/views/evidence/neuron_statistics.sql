-- How each neuron's activations are spread over a probing set.
-- grain: split_id, neuron_id
-- materialized: table
--
-- distinct_values is exact below 256 and says 256 for "that many or more": only a neuron whose best images
-- share values can have fewer, and only those few neurons are counted in full. sd is from the mean of the squares: in
-- double precision that loses nothing which float values had, and it takes half the time of a running variance.

with

spreads as (

    select
        images.split_id,
        activations.neuron_id,
        count(*) as images,
        sum(cast(activations.value as double)) / count(*) as mean,
        sum(cast(activations.value as double) * activations.value) / count(*) as mean_square,
        min(activations.value) as lowest,
        max(activations.value) as highest
    from activations
    inner join images on activations.image_id = images.image_id
    group by images.split_id, activations.neuron_id

),

tied_neurons as (

    select split_id, neuron_id
    from top_activations
    group by split_id, neuron_id
    having count(distinct value) < 256

),

tied_activations as (

    select neuron_id, image_id, value
    from activations
    where neuron_id in (select neuron_id from tied_neurons)

),

counted as (

    select
        images.split_id,
        tied_activations.neuron_id,
        count(distinct tied_activations.value) as distinct_values
    from tied_activations
    inner join images on tied_activations.image_id = images.image_id
    group by images.split_id, tied_activations.neuron_id

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
    least(coalesce(counted.distinct_values, 256), 256) as distinct_values
from spreads
left join counted
    on
        spreads.neuron_id = counted.neuron_id
        and spreads.split_id = counted.split_id
