-- Which images activate one neuron most? The first $most that it fires on and that its label was computed from.
-- grain: rank
-- parameters: neuron, most

with

best as (

    select
        top_activations.rank,
        top_activations.image_id,
        top_activations.value,
        dissections.network_id
    from shown_dissection
    inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
    inner join top_activations on dissections.split_id = top_activations.split_id
    inner join neuron_statistics
        on
            top_activations.neuron_id = neuron_statistics.neuron_id
            and top_activations.split_id = neuron_statistics.split_id
    where
        top_activations.neuron_id = $neuron
        and top_activations.rank <= least($most, dissections.top_k)
        and top_activations.rank <= neuron_statistics.images_fired
        and neuron_statistics.sd > 0

),

predicted as (

    -- Without this condition the predictions of all images would be joined, and only then those of the best chosen.
    select image_id, network_id, predicted_class, is_correct
    from image_predictions
    where image_id in (select image_id from best) and network_id in (select network_id from best)

)

select
    best.rank,
    best.image_id,
    best.value,
    images.class as true_class,
    predicted.predicted_class,
    predicted.is_correct
from best
inner join images on best.image_id = images.image_id
left join predicted on best.image_id = predicted.image_id and best.network_id = predicted.network_id
order by best.rank
