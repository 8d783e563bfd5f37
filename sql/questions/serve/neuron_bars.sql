-- How are the activations of one neuron spread over the images of each class?
-- grain: class, low
-- parameters: neuron
--
-- For the twelve classes with the highest mean. lowest, highest: the range over all classes.

with

bars as (

    select
        class,
        low,
        images,
        min(low) over () as lowest,
        max(high) over () as highest
    from activation_histograms
    where neuron_id = $neuron

),

means as (

    select images.class, avg(cast(activations.value as double)) as class_mean
    from shown_dissection
    inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
    inner join images on dissections.split_id = images.split_id
    inner join activations on images.image_id = activations.image_id
    where activations.neuron_id = $neuron
    group by images.class

)

select bars.class, bars.low, bars.images, bars.lowest, bars.highest, means.class_mean
from bars
inner join means on bars.class = means.class or (bars.class is null and means.class is null)
qualify dense_rank() over (order by means.class_mean desc, bars.class) <= 12
order by means.class_mean desc, bars.class, bars.low
