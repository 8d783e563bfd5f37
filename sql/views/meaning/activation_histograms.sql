-- How the activations of a neuron are distributed over the images of each class, in bars of equal width.
-- grain: neuron_id, class, low, dissection_id
-- public
--
-- Twenty bars reach from the lowest to the highest activation on the probing set. Empty bars have no row. A neuron
-- with one value has one bar of width 0.
-- class: the true class; NULL if there is none.
-- Select neurons by neuron_id, or by layer and unit: then only their activations are read. All neurons together take a
-- minute.

with

spreads as (

    select
        dissected_neurons.dissection_id,
        dissected_neurons.neuron_id,
        dissections.split_id,
        named_neurons.network,
        named_neurons.layer,
        named_neurons.position,
        named_neurons.unit,
        cast(neuron_statistics.lowest as double) as lowest,
        (cast(neuron_statistics.highest as double) - neuron_statistics.lowest) / 20 as width
    from shown_dissection
    inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
    inner join dissected_neurons on dissections.dissection_id = dissected_neurons.dissection_id
    inner join named_neurons on dissected_neurons.neuron_id = named_neurons.neuron_id
    inner join neuron_statistics
        on
            dissected_neurons.neuron_id = neuron_statistics.neuron_id
            and dissections.split_id = neuron_statistics.split_id

),

placed as (

    select
        spreads.layer,
        spreads.unit,
        activations.neuron_id,
        images.class,
        coalesce(least(floor((activations.value - spreads.lowest) / nullif(spreads.width, 0)), 19), 0) as bar
    from spreads
    inner join activations on spreads.neuron_id = activations.neuron_id
    inner join images
        on
            activations.image_id = images.image_id
            and spreads.split_id = images.split_id

),

counted as (

    select layer, unit, neuron_id, class, bar, count(*) as images
    from placed
    group by layer, unit, neuron_id, class, bar

)

select
    spreads.network,
    counted.layer,
    counted.unit,
    counted.class,
    spreads.lowest + counted.bar * spreads.width as low,
    spreads.lowest + (counted.bar + 1) * spreads.width as high,
    counted.images,
    spreads.position,
    counted.neuron_id,
    spreads.dissection_id
from counted
inner join spreads on counted.neuron_id = spreads.neuron_id
