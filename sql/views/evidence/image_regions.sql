-- Where in its best images a neuron responds: the activation map as a small grid, and the place of its maximum.
-- grain: network, layer, unit, rank, dissection_id
-- public
--
-- rank, image_id: as in top_images. There is no row for an image without a map: for layers without places, and beyond the
-- best images that the study keeps maps of.
-- threshold: the value that one cell in a hundred of the neuron's maps exceeds, over all images of the probing set.
-- share_above: the share of the cells of this map above it.
-- seen_row, seen_column: the middle of the highest cell, as shares of the height and width of what the network saw.
-- picture_row, picture_column: the same place in the stored picture, of which the network may have seen a part; NULL if
-- that part is unknown, as for most arrays, or the place lies in padding. part_top … part_right: the part, as shares.
-- cells: row by row, 0 for low and 255 for high.

with

maps as (

    select
        activation_maps.neuron_id,
        activation_maps.image_id,
        images.split_id,
        images.width,
        images.height,
        activation_maps.grid_rows,
        activation_maps.grid_columns,
        activation_maps.top_row,
        activation_maps.top_column,
        (activation_maps.top_row + cast(0.5 as double)) / activation_maps.grid_rows as seen_row,
        (activation_maps.top_column + cast(0.5 as double)) / activation_maps.grid_columns as seen_column,
        map_thresholds.threshold,
        cast(activation_maps.low as double) as low,
        cast(activation_maps.high as double) as high,
        activation_maps.cells
    from activation_maps
    inner join images on activation_maps.image_id = images.image_id
    left join map_thresholds
        on
            activation_maps.neuron_id = map_thresholds.neuron_id
            and images.split_id = map_thresholds.split_id

),

placed as (

    select
        named_neurons.network,
        named_neurons.layer,
        named_neurons.unit,
        dissections.dissection_id,
        maps.*,
        seen_parts.part_top,
        seen_parts.part_bottom,
        seen_parts.part_left,
        seen_parts.part_right,
        seen_parts.part_top + maps.seen_row * (seen_parts.part_bottom - seen_parts.part_top) as picture_row,
        seen_parts.part_left + maps.seen_column * (seen_parts.part_right - seen_parts.part_left) as picture_column
    from shown_dissection
    inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
    inner join named_neurons on dissections.network_id = named_neurons.network_id
    inner join maps
        on
            named_neurons.neuron_id = maps.neuron_id
            and dissections.split_id = maps.split_id
    left join seen_parts
        on
            named_neurons.network_id = seen_parts.network_id
            and maps.width = seen_parts.width
            and maps.height = seen_parts.height

)

select
    placed.network,
    placed.layer,
    placed.unit,
    top_images.rank,
    placed.image_id,
    placed.grid_rows,
    placed.grid_columns,
    placed.top_row,
    placed.top_column,
    placed.seen_row,
    placed.seen_column,
    case when placed.picture_row between 0 and 1 then placed.picture_row end as picture_row,
    case when placed.picture_column between 0 and 1 then placed.picture_column end as picture_column,
    placed.part_top,
    placed.part_bottom,
    placed.part_left,
    placed.part_right,
    placed.threshold,
    case
        when placed.high > placed.low
            then nd_share_above(placed.cells, 255 * (placed.threshold - placed.low) / (placed.high - placed.low))
        when placed.low > placed.threshold then cast(1 as double)
        when placed.low <= placed.threshold then cast(0 as double)
    end as share_above,
    placed.low,
    placed.high,
    placed.cells,
    placed.dissection_id
from placed
inner join top_images
    on
        placed.network = top_images.network
        and placed.layer = top_images.layer
        and placed.unit = top_images.unit
        and placed.image_id = top_images.image_id
        and placed.dissection_id = top_images.dissection_id
