-- Which concepts stand behind an image: the labels of its most active interpretable neurons in each layer.
-- grain: dissection_id, layer_id, image_id, concept_id
-- materialized: table by dissection and image
--
-- Active means far above the neuron's own mean, in its standard deviations. 20 is the largest images_neurons
-- that a study may ask for, a constant so that DuckDB keeps a heap per image instead of sorting everything.
-- Images of other splits are ranked too and dropped at the end: asking sooner costs a join as large as the data.

with

speakers as (

    select
        neuron_labels.dissection_id,
        neuron_labels.neuron_id,
        neuron_labels.layer_id,
        neuron_labels.concept_id,
        dissected_neurons.mean,
        dissected_neurons.sd
    from neuron_labels
    inner join dissected_neurons
        on
            neuron_labels.dissection_id = dissected_neurons.dissection_id
            and neuron_labels.neuron_id = dissected_neurons.neuron_id
    where neuron_labels.interpretable

),

most_active as (

    select
        speakers.dissection_id,
        speakers.layer_id,
        activations.image_id,
        speakers.concept_id,
        row_number() over (
            partition by speakers.dissection_id, speakers.layer_id, activations.image_id
            order by ((activations.value - speakers.mean) / speakers.sd, -activations.neuron_id) desc
        ) as rank
    from activations
    inner join speakers on activations.neuron_id = speakers.neuron_id
    qualify
        row_number() over (
            partition by speakers.dissection_id, speakers.layer_id, activations.image_id
            order by ((activations.value - speakers.mean) / speakers.sd, -activations.neuron_id) desc
        ) <= 20

)

select distinct
    most_active.dissection_id,
    most_active.layer_id,
    most_active.image_id,
    most_active.concept_id
from most_active
inner join dissections on most_active.dissection_id = dissections.dissection_id
inner join images
    on
        most_active.image_id = images.image_id
        and dissections.split_id = images.split_id
where most_active.rank <= dissections.images_neurons
