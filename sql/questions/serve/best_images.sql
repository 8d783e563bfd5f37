-- Which images activate the neurons of a layer most? The first $most that each fires on, as in top_images.
-- grain: unit, rank
-- parameters: module, most

select named_neurons.unit, top_activations.rank, top_activations.image_id
from shown_dissection
inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
inner join named_neurons on dissections.network_id = named_neurons.network_id
inner join neuron_statistics
    on
        named_neurons.neuron_id = neuron_statistics.neuron_id
        and dissections.split_id = neuron_statistics.split_id
inner join top_activations
    on
        named_neurons.neuron_id = top_activations.neuron_id
        and dissections.split_id = top_activations.split_id
where
    named_neurons.layer = $module
    and top_activations.rank <= least($most, dissections.top_k)
    and top_activations.rank <= neuron_statistics.images_fired
    and neuron_statistics.sd > 0
