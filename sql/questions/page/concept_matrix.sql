-- In what share of the right images of each class is each concept active, in the layer with most interpretable neurons?
-- grain: class, concept
--
-- The 30 commonest concepts and the twelve largest classes, side by side.

with

shown as (

    select class, concept, images, share
    from concept_counts_by_prediction
    where layer = (
        select layer from layer_summary order by num_interpretable desc nulls last, position desc, layer limit 1
    )

),

commonest as (

    select concept, sum(images) as all_images
    from shown
    group by concept
    order by all_images desc, concept
    limit 30

),

largest as (

    select class
    from shown
    group by class
    order by max(images / share) desc, class
    limit 12

),

places as (

    select class, min(position) as position
    from classes
    group by class

)

select shown.class, shown.concept, shown.images, shown.share, places.position
from shown
inner join commonest on shown.concept = commonest.concept
inner join largest on shown.class = largest.class
left join places on shown.class = places.class
order by commonest.all_images desc, shown.concept, places.position nulls last, shown.class
