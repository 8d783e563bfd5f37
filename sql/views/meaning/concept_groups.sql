-- Which concepts tend to occur together in images: each with the commonest concept it correlates with.
-- grain: concept, dissection_id
-- public
--
-- Only the sixty concepts that label most neurons have a row. Their cosines over the first 2,000 sound images are
-- correlated.
-- leader: the commonest of these concepts, itself included, with a correlation of at least 0.8. A concept that is
-- equally near to all images has no correlation and is its own leader.

with

labels as (

    select
        dissections.network_id,
        dissections.split_id,
        dissections.clip_id,
        dissections.dissection_id,
        concepts.concept_id,
        concepts.concept,
        count(*) as neurons
    from shown_dissection
    inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
    inner join neuron_labels on dissections.dissection_id = neuron_labels.dissection_id
    inner join concepts on neuron_labels.concept_id = concepts.concept_id
    group by
        dissections.network_id,
        dissections.split_id,
        dissections.clip_id,
        dissections.dissection_id,
        concepts.concept_id,
        concepts.concept

),

ranked as (

    select
        *,
        row_number() over (order by neurons desc, concept) as place
    from labels

),

commonest as (

    select *
    from ranked
    where place <= 60

),

first_images as (

    select images.image_id
    from shown_dissection
    inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
    inner join images on dissections.split_id = images.split_id
    where images.defect is null
    qualify row_number() over (order by images.image_id) <= 2000

),

cosines as (

    select
        commonest.concept_id,
        commonest.place,
        image_embeddings.image_id,
        cast(nd_dot(image_embeddings.embedding, concept_embeddings.embedding) as double) as cosine
    from commonest
    inner join concept_embeddings
        on
            commonest.concept_id = concept_embeddings.concept_id
            and commonest.clip_id = concept_embeddings.clip_id
    inner join image_embeddings on commonest.clip_id = image_embeddings.clip_id
    inner join first_images on image_embeddings.image_id = first_images.image_id

),

varied as (

    -- A variance that is only rounding error does not count.
    select concept_id
    from cosines
    group by concept_id
    having stddev_pop(cosine) > 1e-6 * abs(avg(cosine))

),

varied_cosines as (

    select cosines.*
    from cosines
    inner join varied on cosines.concept_id = varied.concept_id

),

pairs as (

    select
        followers.concept_id,
        leaders.concept_id as leader_id,
        leaders.place,
        corr(followers.cosine, leaders.cosine) as correlation
    from varied_cosines as followers
    inner join varied_cosines as leaders
        on
            followers.image_id = leaders.image_id
            and followers.place > leaders.place
    group by followers.concept_id, leaders.concept_id, leaders.place

),

candidates as (

    select concept_id, leader_id, place, correlation
    from pairs
    where correlation >= cast(0.8 as double)
    union all
    select concept_id, concept_id as leader_id, place, cast(1 as double) as correlation
    from commonest

),

joined as (

    select concept_id, leader_id, correlation
    from candidates
    qualify row_number() over (partition by concept_id order by place) = 1

)

select
    networks.name as network,
    commonest.concept,
    leaders.concept as leader,
    joined.correlation,
    commonest.neurons,
    commonest.dissection_id
from joined
inner join commonest on joined.concept_id = commonest.concept_id
inner join commonest as leaders on joined.leader_id = leaders.concept_id
inner join networks on commonest.network_id = networks.network_id
