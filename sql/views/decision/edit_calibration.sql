-- How much confidence and accuracy differ before and after an edit: the expected calibration error.
-- grain: edit_id, split_id
--
-- Images fall into fifteen equal ranges of confidence. The error is the mean over images of the difference between the
-- accuracy and the mean confidence of their range (Guo et al. 2017, arXiv 1706.04599). Only images count whose class
-- is an output of the network. Controls have no row.
-- The product of confidence and fifteen stays a float on every engine: in double precision the ranges would begin
-- elsewhere.

with

judged as (

    select
        edits.edit_id,
        images.split_id,
        'before' as state,
        predictions.confidence,
        predictions.class = images.class as is_correct
    from edits
    inner join finished_edits on edits.edit_id = finished_edits.edit_id
    inner join images on finished_edits.split_id = images.split_id
    inner join predictions
        on
            edits.network_id = predictions.network_id
            and images.image_id = predictions.image_id
    inner join network_outputs
        on
            edits.network_id = network_outputs.network_id
            and images.class = network_outputs.class
    where edits.control is null
    union all
    select
        edits.edit_id,
        images.split_id,
        'after' as state,
        edit_predictions.confidence,
        edit_predictions.class = images.class as is_correct
    from edits
    inner join finished_edits on edits.edit_id = finished_edits.edit_id
    inner join edit_predictions on edits.edit_id = edit_predictions.edit_id
    inner join images
        on
            edit_predictions.image_id = images.image_id
            and finished_edits.split_id = images.split_id
    inner join network_outputs
        on
            edits.network_id = network_outputs.network_id
            and images.class = network_outputs.class
    where edits.control is null

),

ranges as (

    select
        edit_id,
        split_id,
        state,
        least(floor(cast(confidence * 15 as float)), 14) as place,
        count(*) as images,
        abs(sum(cast(confidence as double)) - count(*) filter (where is_correct)) as distance
    from judged
    group by edit_id, split_id, state, place

)

select
    edit_id,
    sum(distance) filter (where state = 'before') / sum(images) filter (where state = 'before') as ece_before,
    sum(distance) filter (where state = 'after') / sum(images) filter (where state = 'after') as ece_after,
    split_id
from ranges
group by edit_id, split_id
