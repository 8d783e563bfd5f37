-- Where in an image do the believed neurons respond that have it among their best images? The first $most, by rank.
-- grain: layer, unit
-- parameters: image, most

select
    named_neurons.layer,
    named_neurons.unit,
    concepts.concept,
    images.width,
    images.height,
    activation_maps.cells,
    activation_maps.grid_rows,
    activation_maps.grid_columns,
    activation_maps.top_row,
    activation_maps.top_column,
    cast(activation_maps.low as double) as low,
    cast(activation_maps.high as double) as high,
    map_thresholds.threshold,
    seen_parts.part_top,
    seen_parts.part_bottom,
    seen_parts.part_left,
    seen_parts.part_right
from shown_dissection
inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
inner join activation_maps on activation_maps.image_id = $image
inner join images on activation_maps.image_id = images.image_id
inner join top_activations
    on
        activation_maps.neuron_id = top_activations.neuron_id
        and activation_maps.image_id = top_activations.image_id
        and dissections.split_id = top_activations.split_id
inner join neuron_labels
    on
        activation_maps.neuron_id = neuron_labels.neuron_id
        and dissections.dissection_id = neuron_labels.dissection_id
inner join named_neurons on activation_maps.neuron_id = named_neurons.neuron_id
inner join concepts on neuron_labels.concept_id = concepts.concept_id
inner join seen_parts
    on
        dissections.network_id = seen_parts.network_id
        and images.width = seen_parts.width
        and images.height = seen_parts.height
left join map_thresholds
    on
        activation_maps.neuron_id = map_thresholds.neuron_id
        and dissections.split_id = map_thresholds.split_id
where
    top_activations.image_id = $image
    and top_activations.rank <= dissections.top_k
    and neuron_labels.interpretable
order by top_activations.rank, named_neurons.position desc, named_neurons.layer, named_neurons.unit
limit $most
