-- How are the activations of some neurons spread over the images of each class, for the classes that activate them most?
-- grain: layer, unit, class, low
-- parameters: neuron_ids
--
-- The ids are written into the text, because DuckDB then reads only the activations of these neurons. At most twelve
-- classes per neuron: those with the highest mean. class is NULL for images without a class. lowest, highest: the range
-- of the neuron's activations over all classes.

with

bars as (

    select
        layer,
        unit,
        class,
        low,
        images,
        min(low) over (partition by layer, unit) as lowest,
        max(high) over (partition by layer, unit) as highest,
        sum(images * low) over (partition by layer, unit, class)
        / sum(images) over (partition by layer, unit, class) as class_mean
    from activation_histograms
    where neuron_id in ($neuron_ids)

)

select layer, unit, class, low, images, lowest, highest
from bars
qualify dense_rank() over (partition by layer, unit order by class_mean desc, class) <= 12
order by layer, unit, class, low
