-- Which eight images activate each of the strongest neurons most?
-- grain: layer, unit, rank
-- parameters: layer, pictured
--
-- Of one layer, or of all if $layer is NULL; of the first $pictured neurons by neuron_order.

with

pictured as (

    select layer, unit, place, neuron_id
    from neuron_order
    where layer = coalesce($layer, layer)
    order by place
    limit $pictured

)

select
    pictured.layer,
    pictured.unit,
    pictured.neuron_id,
    top_images.rank,
    top_images.image_id,
    top_images.value,
    top_images.true_class,
    top_images.predicted_class,
    top_images.is_correct,
    regexp_replace(images.path, '^.*[/\\]', '') as file,
    images.width,
    images.height,
    image_regions.cells,
    image_regions.grid_rows,
    image_regions.grid_columns,
    image_regions.top_row,
    image_regions.top_column,
    image_regions.low,
    image_regions.high,
    image_regions.threshold,
    image_regions.part_top,
    image_regions.part_bottom,
    image_regions.part_left,
    image_regions.part_right,
    images.thumbnail
from pictured
inner join top_images on pictured.layer = top_images.layer and pictured.unit = top_images.unit
inner join images on top_images.image_id = images.image_id
left join image_regions
    on
        pictured.layer = image_regions.layer
        and pictured.unit = image_regions.unit
        and top_images.rank = image_regions.rank
where top_images.rank <= 8
order by pictured.place, top_images.rank
