-- What do the images that activate one neuron most look like? The first six that it fires on.
-- grain: rank
-- parameters: neuron

select top_activations.rank, images.thumbnail
from shown_dissection
inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
inner join top_activations on dissections.split_id = top_activations.split_id
inner join neuron_statistics
    on
        top_activations.neuron_id = neuron_statistics.neuron_id
        and top_activations.split_id = neuron_statistics.split_id
inner join images on top_activations.image_id = images.image_id
where
    top_activations.neuron_id = $neuron
    and top_activations.rank <= least(6, dissections.top_k)
    and top_activations.rank <= neuron_statistics.images_fired
    and neuron_statistics.sd > 0
order by top_activations.rank
