-- Which concepts stand behind the right predictions of each class, in the layer with most interpretable neurons?
-- grain: layer, class, concept
--
-- The twelve largest classes, each with the eight concepts that have the highest share.

with

largest_classes as (

    select
        image_predictions.true_class as class,
        count(*) as images,
        count(*) filter (where image_predictions.is_correct) as correct
    from shown_dissection
    inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
    inner join image_predictions
        on
            dissections.network_id = image_predictions.network_id
            and dissections.split_id = image_predictions.split_id
    where image_predictions.true_class is not null
    group by image_predictions.true_class
    order by images desc, class
    limit 12

),

places as (

    select class, min(position) as position
    from classes
    group by class

)

select
    counts.layer,
    counts.class,
    counts.concept,
    counts.images,
    largest_classes.correct,
    counts.share,
    counts.low,
    counts.high,
    counts.lift
from concept_counts_by_prediction as counts
inner join largest_classes on counts.class = largest_classes.class
left join places on counts.class = places.class
where counts.layer = (
    select layer from layer_summary order by num_interpretable desc nulls last, position desc, layer limit 1
)
qualify
    row_number() over (
        partition by counts.class order by counts.share desc, counts.concept
    ) <= 8
order by places.position nulls last, counts.class, counts.share desc, counts.concept
