-- In how many correctly predicted images of a class each concept was active.
-- grain: network, layer, concept, class, dissection_id
-- public
--
-- share: of the correctly predicted images of the class. low, high: its Wilson 95 % interval. lift: share divided by
-- the share among the wrongly predicted images of the class; NULL if that is zero.
-- A class that is not an output of the network has no rows.

with

judged_images as (

    select
        dissections.dissection_id,
        image_predictions.image_id,
        image_predictions.true_class as class,
        image_predictions.is_correct
    from shown_dissection
    inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
    inner join image_predictions
        on
            dissections.network_id = image_predictions.network_id
            and dissections.split_id = image_predictions.split_id
    where image_predictions.is_correct is not null

),

class_counts as (

    select
        dissection_id,
        class,
        count(*) filter (where is_correct) as correct,
        count(*) filter (where not is_correct) as wrong
    from judged_images
    group by dissection_id, class

),

concept_counts as (

    select
        image_concepts.dissection_id,
        image_concepts.layer_id,
        image_concepts.concept_id,
        judged_images.class,
        count(*) filter (where judged_images.is_correct) as correct,
        count(*) filter (where not judged_images.is_correct) as wrong
    from image_concepts
    inner join judged_images
        on
            image_concepts.image_id = judged_images.image_id
            and image_concepts.dissection_id = judged_images.dissection_id
    group by
        image_concepts.dissection_id,
        image_concepts.layer_id,
        image_concepts.concept_id,
        judged_images.class

),

shares as (

    select
        concept_counts.dissection_id,
        concept_counts.layer_id,
        concept_counts.concept_id,
        concept_counts.class,
        concept_counts.correct as images,
        class_counts.correct as total,
        concept_counts.correct / class_counts.correct as share,
        concept_counts.wrong / nullif(class_counts.wrong, 0) as share_of_wrong,
        cast(1.959963984540054 as double) as z  -- the normal quantile of a 95 % interval
    from concept_counts
    inner join class_counts
        on
            concept_counts.dissection_id = class_counts.dissection_id
            and concept_counts.class = class_counts.class
    where concept_counts.correct > 0

)

select
    networks.name as network,
    named_layers.layer,
    concepts.concept,
    shares.class,
    shares.images,
    shares.share,
    shares.share / nullif(shares.share_of_wrong, 0) as lift,
    (
        shares.share + z * z / (2 * total)
        - z * sqrt(shares.share * (1 - shares.share) / total + z * z / (4 * total * total))
    ) / (1 + z * z / total) as low,
    (
        shares.share + z * z / (2 * total)
        + z * sqrt(shares.share * (1 - shares.share) / total + z * z / (4 * total * total))
    ) / (1 + z * z / total) as high,
    shares.dissection_id
from shares
inner join named_layers on shares.layer_id = named_layers.layer_id
inner join networks on named_layers.network_id = networks.network_id
inner join concepts on shares.concept_id = concepts.concept_id
