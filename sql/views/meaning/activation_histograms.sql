-- How a neuron's activations are spread over the images of each class, in bars of equal width.
-- grain: neuron_id, class, low, dissection_id
--
-- Twenty bars from the neuron's lowest to its highest activation; empty ones have no row. Ask for some neurons, by
-- neuron_id: over all of them it counts every activation.

with

placed as (

    select
        activations.neuron_id,
        images.class,
        neuron_statistics.lowest,
        greatest((neuron_statistics.highest - neuron_statistics.lowest) / 20, 1e-30) as width,
        least(
            floor(
                (activations.value - neuron_statistics.lowest)
                / greatest((neuron_statistics.highest - neuron_statistics.lowest) / 20, 1e-30)
            ),
            19
        ) as bar,
        dissections.dissection_id
    from shown_dissection
    inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
    inner join images on dissections.split_id = images.split_id
    inner join activations on images.image_id = activations.image_id
    inner join neuron_statistics
        on
            activations.neuron_id = neuron_statistics.neuron_id
            and dissections.split_id = neuron_statistics.split_id
    where images.defect is null

),

counted as (

    select neuron_id, class, bar, lowest, width, dissection_id, count(*) as images
    from placed
    group by neuron_id, class, bar, lowest, width, dissection_id

)

select
    named_neurons.network,
    named_neurons.layer,
    named_neurons.unit,
    counted.class,
    counted.lowest + counted.bar * counted.width as low,
    counted.lowest + (counted.bar + 1) * counted.width as high,
    counted.images,
    named_neurons.position,
    counted.neuron_id,
    counted.dissection_id
from counted
inner join named_neurons on counted.neuron_id = named_neurons.neuron_id
