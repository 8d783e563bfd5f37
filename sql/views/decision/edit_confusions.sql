-- For each true class, how often a network predicts each class before and after an edit.
-- grain: edit_id, split_id, true_class, predicted_class
-- public
--
-- A pair of classes that occurs neither before nor after has no row.

with

judged as (

    select
        edits.edit_id,
        images.split_id,
        images.class as true_class,
        before.class as class_before,
        after.class as class_after,
        edits.dissection_id
    from edits
    inner join edit_predictions as after on edits.edit_id = after.edit_id
    inner join predictions as before
        on
            edits.network_id = before.network_id
            and after.image_id = before.image_id
    inner join images on after.image_id = images.image_id
    where
        edits.control is null
        and images.class is not null

),

said as (

    select edit_id, split_id, true_class, class_before as predicted_class, 'before' as moment, dissection_id
    from judged
    union all
    select edit_id, split_id, true_class, class_after as predicted_class, 'after' as moment, dissection_id
    from judged

)

select
    said.edit_id,
    splits.split,
    said.true_class,
    said.predicted_class,
    count(*) filter (where said.moment = 'before') as images_before,
    count(*) filter (where said.moment = 'after') as images_after,
    count(*) filter (where said.moment = 'after') - count(*) filter (where said.moment = 'before') as change,
    said.split_id,
    said.dissection_id
from said
inner join splits on said.split_id = splits.split_id
group by said.edit_id, splits.split, said.true_class, said.predicted_class, said.split_id, said.dissection_id
