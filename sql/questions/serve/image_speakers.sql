-- Which believed neurons speak for an image, that is, have it among their best images? Sixty, by its rank.
-- grain: layer, unit
-- parameters: image

select
    named_neurons.layer,
    named_neurons.unit,
    concepts.concept,
    top_activations.rank,
    top_activations.value,
    neuron_labels.z,
    neuron_labels.q,
    named_neurons.position
from shown_dissection
inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
inner join top_activations on dissections.split_id = top_activations.split_id
inner join neuron_labels
    on
        top_activations.neuron_id = neuron_labels.neuron_id
        and dissections.dissection_id = neuron_labels.dissection_id
inner join named_neurons on neuron_labels.neuron_id = named_neurons.neuron_id
inner join concepts on neuron_labels.concept_id = concepts.concept_id
where
    top_activations.image_id = $image
    and top_activations.rank <= least(dissections.top_k, neuron_labels.images_fired)
    and neuron_labels.interpretable
order by top_activations.rank, named_neurons.position desc, named_neurons.layer, named_neurons.unit
limit 60
