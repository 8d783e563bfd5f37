-- Which eight images activate one neuron most?
-- grain: layer, unit, rank
-- parameters: module, unit

select
    top_images.layer,
    top_images.unit,
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
from top_images
inner join images on top_images.image_id = images.image_id
left join image_regions
    on
        top_images.layer = image_regions.layer
        and top_images.unit = image_regions.unit
        and top_images.rank = image_regions.rank
where top_images.layer = $module and top_images.unit = $unit and top_images.rank <= 8
order by top_images.rank
