-- What did the network take the largest classes for, before and after the shown edit?
-- grain: true_class, predicted_class
--
-- On the last split on which the edit was measured; at most twelve classes.

with

shown as (

    select edit_confusions.*
    from edit_confusions
    inner join latest_edits
        on
            edit_confusions.edit_id = latest_edits.edit_id
            and edit_confusions.split_id = latest_edits.last_split_id
    inner join shown_dissection on latest_edits.dissection_id = shown_dissection.dissection_id

),

largest as (

    select true_class as class
    from shown
    group by true_class
    order by sum(images_before) desc, class
    limit 12

)

select split, true_class, predicted_class, images_before, images_after, change
from shown
where
    true_class in (select class from largest)
    and predicted_class in (select class from largest)
order by true_class, predicted_class
