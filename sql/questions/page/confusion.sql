-- What does the network take each of the largest classes for?
-- grain: true_class, predicted_class
--
-- At most twelve classes. If a class is not an output of the network, the classes that it is taken for most often are
-- shown.

with

shown as (

    select confusion_matrices.*
    from confusion_matrices
    inner join dissections
        on
            confusion_matrices.network_id = dissections.network_id
            and confusion_matrices.split_id = dissections.split_id
    inner join shown_dissection on dissections.dissection_id = shown_dissection.dissection_id

),

largest as (

    select true_class as class
    from shown
    group by true_class
    order by sum(images) desc, class
    limit 12

),

answers as (

    select predicted_class as class
    from shown
    where is_correct is null
    group by predicted_class
    order by sum(images) desc, class
    limit 12

),

places as (

    select class, min(position) as position
    from classes
    group by class

)

select shown.true_class, shown.predicted_class, shown.images, shown.share, shown.is_correct
from shown
left join places on shown.true_class = places.class
left join places as answered on shown.predicted_class = answered.class
where
    shown.true_class in (select class from largest)
    and (
        shown.predicted_class in (select class from largest)
        or (shown.is_correct is null and shown.predicted_class in (select class from answers))
    )
order by places.position nulls last, shown.true_class, answered.position nulls last, shown.predicted_class
