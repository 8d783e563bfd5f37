-- The probability of each concept for each probing image: the softmax of CLIP's scaled cosines.
-- grain: dissection_id, image_id, concept_id
--
-- Only dissections whose scorer reads probabilities have rows.

with

logits as (

    select
        dissections.dissection_id,
        image_concept_similarities.image_id,
        image_concept_similarities.concept_id,
        dissections.softmax_scale * cast(image_concept_similarities.similarity as double) as logit
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
    where dissections.engine = 'sql' and dissections.scorer in ('soft_wpmi', 'wpmi', 'pearson')

),

shifted as (

    -- The shift prevents an overflow of exp at a large scale; it cancels out in the quotient.
    select
        dissection_id,
        image_id,
        concept_id,
        exp(logit - max(logit) over (partition by dissection_id, image_id)) as weight
    from logits

)

select
    dissection_id,
    image_id,
    concept_id,
    weight / sum(weight) over (partition by dissection_id, image_id) as probability
from shifted
