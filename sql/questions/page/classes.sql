-- How often is the network right on each of the largest classes of the probing set?
-- grain: class
--
-- correct is NULL for a class that is not an output of the network.

select
    image_predictions.true_class as class,
    count(*) as images,
    case
        when count(image_predictions.is_correct) > 0 then count(*) filter (where image_predictions.is_correct)
    end as correct,
    count(*) over () as num_classes
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
