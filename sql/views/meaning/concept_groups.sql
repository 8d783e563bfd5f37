-- Labels that say the same of the images: which commoner label each one runs along with.
-- grain: concept, dissection_id
--
-- The sixty concepts that most neurons carry, by the correlation of their cosines over the first 2,000 sound images.
-- leader: the commonest concept with which the correlation is at least 0.8, the concept itself included; correlation is
-- that with the leader.

with

labels as (

    select
        networks.name as network,
        concepts.concept_id,
        concepts.concept,
        dissections.clip_id,
        dissections.split_id,
        dissections.dissection_id,
        count(*) as neurons
    from shown_dissection
    inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
    inner join networks on dissections.network_id = networks.network_id
    inner join neuron_labels on dissections.dissection_id = neuron_labels.dissection_id
    inner join concepts on neuron_labels.concept_id = concepts.concept_id
    group by
        networks.name,
        concepts.concept_id,
        concepts.concept,
        dissections.clip_id,
        dissections.split_id,
        dissections.dissection_id

),

ranked as (

    select
        *,
        row_number() over (order by neurons desc, concept, concept_id) as place
    from labels
    qualify row_number() over (order by neurons desc, concept, concept_id) <= 60

),

sound_images as (

    select images.image_id
    from images
    inner join dissections on images.split_id = dissections.split_id
    inner join shown_dissection on dissections.dissection_id = shown_dissection.dissection_id
    where images.defect is null
    qualify row_number() over (order by images.image_id) <= 2000

),

cosines as (

    select
        ranked.concept_id,
        image_embeddings.image_id,
        nd_dot(image_embeddings.embedding, concept_embeddings.embedding) as cosine
    from ranked
    inner join concept_embeddings
        on
            ranked.concept_id = concept_embeddings.concept_id
            and ranked.clip_id = concept_embeddings.clip_id
    inner join image_embeddings on ranked.clip_id = image_embeddings.clip_id
    where image_embeddings.image_id in (select image_id from sound_images)

),

pairs as (

    select
        cosines.concept_id,
        others.concept_id as other_id,
        corr(cosines.cosine, others.cosine) as correlation
    from cosines
    inner join cosines as others on cosines.image_id = others.image_id
    group by cosines.concept_id, others.concept_id

)

select
    ranked.network,
    ranked.concept,
    leaders.concept as leader,
    case
        when ranked.concept_id = leaders.concept_id then cast(1 as double)
        else pairs.correlation
    end as correlation,
    ranked.neurons,
    ranked.dissection_id
from ranked
inner join pairs on ranked.concept_id = pairs.concept_id
inner join ranked as leaders on pairs.other_id = leaders.concept_id
where
    ranked.concept_id = leaders.concept_id
    or pairs.correlation >= cast(0.8 as double)
qualify row_number() over (partition by ranked.concept_id order by leaders.place) = 1
