-- The images that activate each neuron most, with their true and predicted class.
-- grain: network, layer, unit, rank, dissection_id
-- public
--
-- path: of the image's file; NULL if it has none, as generated images and arrays.
-- is_correct: whether the network is right about the image; NULL if that is unknown.
-- Only images that the neuron fires on have a row; a dead neuron has none.

select
    named_neurons.network,
    named_neurons.layer,
    named_neurons.unit,
    top_activations.rank,
    top_activations.image_id,
    images.path,
    top_activations.value,
    images.class as true_class,
    image_predictions.predicted_class,
    image_predictions.is_correct,
    dissections.dissection_id
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
inner join images on top_activations.image_id = images.image_id
left join image_predictions
    on
        top_activations.image_id = image_predictions.image_id
        and dissections.network_id = image_predictions.network_id
where
    top_activations.rank <= dissections.top_k
    and top_activations.rank <= neuron_statistics.images_fired
    and neuron_statistics.sd > 0
