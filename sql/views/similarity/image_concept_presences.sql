-- How clearly each probing image shows each concept, compared with the other probing images.
-- grain: dissection_id, image_id, concept_id
--
-- presence: how far the image's cosine is above the concept's mean over the images, in standard deviations, less 0.5;
-- 0 for an image below that, and for a concept that is equally similar to all images.
-- Only dissections whose scorer reads presences have rows.

with

asked as (

    select
        dissections.dissection_id,
        image_concept_similarities.image_id,
        image_concept_similarities.concept_id,
        cast(image_concept_similarities.similarity as double) as similarity
    from dissections
    inner join concepts on dissections.concept_set_id = concepts.concept_set_id
    inner join image_concept_similarities
        on
            concepts.concept_id = image_concept_similarities.concept_id
            and dissections.clip_id = image_concept_similarities.clip_id
    inner join images
        on
            image_concept_similarities.image_id = images.image_id
            and dissections.split_id = images.split_id
    where dissections.engine = 'sql' and dissections.scorer = 'presence'

),

spreads as (

    select
        dissection_id,
        concept_id,
        avg(similarity) as mean,
        stddev_pop(similarity) as sd
    from asked
    group by dissection_id, concept_id

)

select
    asked.dissection_id,
    asked.image_id,
    asked.concept_id,
    case
        when spreads.sd > 1e-6 * abs(spreads.mean)
            then greatest((asked.similarity - spreads.mean) / spreads.sd - cast(0.5 as double), 0)
        else 0
    end as presence
from asked
inner join spreads
    on
        asked.dissection_id = spreads.dissection_id
        and asked.concept_id = spreads.concept_id
