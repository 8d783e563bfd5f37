-- The images whose predicted class an edit changed.
-- grain: edit_id, image_id
-- public
--
-- kind: gained (right only after), lost (right only before), other (wrong before and after); NULL if the true class is
-- unknown or is not an output of the network.

select
    edits.edit_id,
    splits.split,
    images.image_id,
    images.class as true_class,
    before.class as class_before,
    after.class as class_after,
    case
        when after.class = images.class then 'gained'
        when before.class = images.class then 'lost'
        when network_outputs.class is not null then 'other'
    end as kind,
    before.confidence as confidence_before,
    after.confidence as confidence_after,
    images.split_id,
    edits.dissection_id
from edits
inner join edit_predictions as after on edits.edit_id = after.edit_id
inner join predictions as before
    on
        edits.network_id = before.network_id
        and after.image_id = before.image_id
inner join images on after.image_id = images.image_id
inner join splits on images.split_id = splits.split_id
left join network_outputs
    on
        edits.network_id = network_outputs.network_id
        and images.class = network_outputs.class
where edits.control is null and after.class <> before.class
