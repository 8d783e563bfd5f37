-- A row is a neuron and an image whose activation map is there twice, is not of its grid's size, has its maximum in another
-- place than it says, or is of a neuron or an image that does not exist.
-- cheap: no

select
    activation_maps.neuron_id,
    activation_maps.image_id,
    count(*) as maps
from activation_maps
left join neurons on activation_maps.neuron_id = neurons.neuron_id
left join images on activation_maps.image_id = images.image_id
group by activation_maps.neuron_id, activation_maps.image_id
having
    count(*) > 1
    or bool_or(neurons.neuron_id is null or images.image_id is null)
    or bool_or(len(activation_maps.cells) != activation_maps.grid_rows * activation_maps.grid_columns)
    or bool_or(
        activation_maps.top_row not between 0 and activation_maps.grid_rows - 1
        or activation_maps.top_column not between 0 and activation_maps.grid_columns - 1
    )
    or bool_or(not (isfinite(activation_maps.low) and activation_maps.low <= activation_maps.high))
    or bool_or(
        activation_maps.high > activation_maps.low
        and activation_maps.cells[activation_maps.top_row * activation_maps.grid_columns + activation_maps.top_column + 1]
        != 255
    )
