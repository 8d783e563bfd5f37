-- Where in its best images does one neuron respond, and which files are they? The first $most.
-- grain: image_id
-- parameters: neuron, most
--
-- cells and part_top … part_right are NULL if the image has no map, or if it is unknown which part of it the network saw.

select
    top_activations.image_id,
    images.path,
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
inner join top_activations on dissections.split_id = top_activations.split_id
inner join images on top_activations.image_id = images.image_id
left join activation_maps
    on
        activation_maps.neuron_id = $neuron
        and top_activations.image_id = activation_maps.image_id
left join map_thresholds
    on
        map_thresholds.neuron_id = $neuron
        and dissections.split_id = map_thresholds.split_id
left join seen_parts
    on
        dissections.network_id = seen_parts.network_id
        and images.width = seen_parts.width
        and images.height = seen_parts.height
where
    top_activations.neuron_id = $neuron
    and top_activations.rank <= least($most, dissections.top_k)
order by top_activations.rank
