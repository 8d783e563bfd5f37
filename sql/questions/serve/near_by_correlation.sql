-- Which neurons of its layer have activations that correlate most with those of one neuron? Twelve, by their size.
-- grain: layer, unit
-- parameters: neuron, module
--
-- Over the first 4,096 images of the probing set that its activations are stored for.

with

mine as (

    select activations.image_id, cast(activations.value as double) as value
    from activations
    inner join images on activations.image_id = images.image_id
    inner join dissections on images.split_id = dissections.split_id
    inner join shown_dissection on dissections.dissection_id = shown_dissection.dissection_id
    where activations.neuron_id = $neuron
    order by activations.image_id
    limit 4096

),

correlated as (

    select
        activations.neuron_id,
        corr(cast(activations.value as double), mine.value) as correlation,
        count(*) as images
    from mine
    inner join activations on mine.image_id = activations.image_id
    inner join named_neurons on activations.neuron_id = named_neurons.neuron_id
    inner join dissections on named_neurons.network_id = dissections.network_id
    inner join shown_dissection on dissections.dissection_id = shown_dissection.dissection_id
    where named_neurons.layer = $module and activations.neuron_id <> $neuron
    group by activations.neuron_id

)

select named_neurons.layer, named_neurons.unit, correlated.correlation, correlated.images, concepts.concept
from correlated
inner join named_neurons on correlated.neuron_id = named_neurons.neuron_id
cross join shown_dissection
left join neuron_labels
    on
        correlated.neuron_id = neuron_labels.neuron_id
        and shown_dissection.dissection_id = neuron_labels.dissection_id
left join concepts on neuron_labels.concept_id = concepts.concept_id
where correlated.correlation between -1 and 1
order by abs(correlated.correlation) desc, named_neurons.unit
limit 12
