-- On which images of each large class was the network most confident, among its right and its wrong predictions?
-- grain: image_id
--
-- Seven classes with three images of each kind. kind is 'unknown' if the class is not an output of the network or
-- the image has none; an image without a true class counts under its predicted one.

with

judged as (

    select
        image_predictions.image_id,
        coalesce(image_predictions.true_class, image_predictions.predicted_class) as class,
        case
            when image_predictions.is_correct is null then 'unknown'
            when image_predictions.is_correct then 'right'
            else 'wrong'
        end as kind,
        image_predictions.true_class,
        image_predictions.predicted_class,
        image_predictions.confidence
    from shown_dissection
    inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
    inner join image_predictions
        on
            dissections.network_id = image_predictions.network_id
            and dissections.split_id = image_predictions.split_id

),

largest_classes as (

    select class, count(*) as images, count(*) over () as num_classes
    from judged
    group by class
    order by images desc, class
    limit 7

)

select
    judged.class,
    judged.kind,
    row_number() over (
        partition by judged.class, judged.kind
        order by judged.confidence desc, judged.image_id
    ) as rank,
    judged.image_id,
    judged.true_class,
    judged.predicted_class,
    judged.confidence,
    regexp_replace(images.path, '^.*[/\\]', '') as file,
    images.thumbnail,
    largest_classes.num_classes
from judged
inner join largest_classes on judged.class = largest_classes.class
inner join images on judged.image_id = images.image_id
qualify
    row_number() over (
        partition by judged.class, judged.kind
        order by judged.confidence desc, judged.image_id
    ) <= 3
order by largest_classes.images desc, judged.class, judged.kind, rank
