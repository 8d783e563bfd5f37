-- The concepts of an image: the labels of its most active interpretable neurons in each layer.
-- grain: dissection_id, layer_id, image_id, concept_id
-- materialized: table by dissection and image
--
-- Activity is measured in a neuron's own standard deviations above its own mean. Of neurons that are equally active to
-- about nine digits, the smaller id comes first. A neuron gives no concept for an image on which it does not fire. 20
-- is the largest images_neurons that a study may set.
-- Images of other splits are ranked too and dropped at the end. Dropping them earlier would cost a join as large as
-- the data.

with

speakers as (

    select
        neuron_labels.dissection_id,
        neuron_labels.neuron_id,
        neuron_labels.layer_id,
        neuron_labels.concept_id,
        dissected_neurons.mean,
        dissected_neurons.sd,
        case when neuron_statistics.images_fired < neuron_statistics.images then neuron_statistics.lowest end as silent
    from neuron_labels
    inner join dissections on neuron_labels.dissection_id = dissections.dissection_id
    inner join neuron_statistics
        on
            neuron_labels.neuron_id = neuron_statistics.neuron_id
            and dissections.split_id = neuron_statistics.split_id
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
        nd_highest_by(
            speakers.concept_id,
            (activations.value - speakers.mean) / speakers.sd - activations.neuron_id * cast(1e-13 as double),
            20
        ) as concept_ids
    from activations
    inner join speakers
        on
            activations.neuron_id = speakers.neuron_id
            and (speakers.silent is null or activations.value > speakers.silent)
    group by speakers.dissection_id, speakers.layer_id, activations.image_id

)

select distinct
    most_active.dissection_id,
    most_active.layer_id,
    most_active.image_id,
    unnest(nd_first(most_active.concept_ids, dissections.images_neurons)) as concept_id
from most_active
inner join dissections on most_active.dissection_id = dissections.dissection_id
inner join images
    on
        most_active.image_id = images.image_id
        and dissections.split_id = images.split_id
