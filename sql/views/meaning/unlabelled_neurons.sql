-- The neurons without a label, and the reason, in every dissection of the warehouse.
-- grain: dissection_id, network, layer, unit
-- public
--
-- reason:
--   dead              the neuron has one value on all images
--   too few images    it fires on fewer images than the dissection's min_images, or than the scorer needs
--   ties              its highest values are equal on more images than the scorer uses, so that only the order of the
--                     images would decide which of them count; cos, cos_cubed and pearson use all images
--   no best concept   the scores of all concepts are the same, or it has no score
-- A layer that extract has not labelled yet is in unlabelled_layers instead.

select
    named_neurons.network,
    named_neurons.layer,
    named_neurons.unit,
    case
        when dissected_neurons.dead then 'dead'
        when dissected_neurons.tied then 'ties'
        when dissected_neurons.sparse then 'too few images'
        else 'no best concept'
    end as reason,
    dissected_neurons.images_fired,
    dissections.min_images,
    dissections.top_k,
    dissections.scorer,
    dissected_neurons.dissection_id
from neuron_labels
inner join dissected_neurons
    on
        neuron_labels.dissection_id = dissected_neurons.dissection_id
        and neuron_labels.neuron_id = dissected_neurons.neuron_id
inner join dissections on neuron_labels.dissection_id = dissections.dissection_id
inner join named_neurons on neuron_labels.neuron_id = named_neurons.neuron_id
left join unlabelled_layers
    on
        dissected_neurons.dissection_id = unlabelled_layers.dissection_id
        and dissected_neurons.layer_id = unlabelled_layers.layer_id
where neuron_labels.concept_id is null and unlabelled_layers.layer_id is null
