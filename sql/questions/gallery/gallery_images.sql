-- Which eight images activate each of the strongest neurons most?
-- grain: layer, unit, rank
-- parameters: layer, pictured
--
-- Of one layer, or of all where $layer is NULL; of the first $pictured neurons, in the order of the question gallery.

with

placed as (

    select
        neuron_concepts.layer,
        neuron_concepts.unit,
        neuron_concepts.dead,
        neuron_concepts.sparse,
        layer_summary.position,
        row_number() over (
            partition by neuron_concepts.layer
            order by
                neuron_concepts.dead, neuron_concepts.sparse, neuron_concepts.calibrated desc,
                neuron_concepts.z desc nulls last,
                neuron_concepts.similarity desc nulls last, neuron_concepts.unit
        ) as place_in_layer
    from neuron_concepts
    inner join layer_summary on neuron_concepts.layer = layer_summary.layer
    where neuron_concepts.layer = coalesce($layer, neuron_concepts.layer)

),

strongest as (

    select
        layer,
        unit,
        row_number() over (order by dead, sparse, place_in_layer, position desc, layer) as place
    from placed
    order by place
    limit $pictured

)

select
    strongest.layer,
    strongest.unit,
    named_neurons.neuron_id,
    top_images.rank,
    top_images.image_id,
    top_images.value,
    top_images.true_class,
    top_images.predicted_class,
    top_images.is_correct,
    images.thumbnail
from strongest
cross join shown_dissection
inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
inner join named_neurons
    on
        dissections.network_id = named_neurons.network_id
        and strongest.layer = named_neurons.layer
        and strongest.unit = named_neurons.unit
inner join top_images on strongest.layer = top_images.layer and strongest.unit = top_images.unit
inner join images on top_images.image_id = images.image_id
where top_images.rank <= 8
order by strongest.place, top_images.rank
