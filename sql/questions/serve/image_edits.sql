-- What is an image taken for after each edit? Those that change its class come first; at most 60.
-- grain: edit_id
-- parameters: image

select
    edits.edit_id,
    edits.name,
    edits.rule,
    edits.layer,
    predictions.class as class_before,
    edit_predictions.class as class_after,
    predictions.confidence as confidence_before,
    edit_predictions.confidence as confidence_after,
    edit_predictions.class <> predictions.class as changed
from edit_predictions
inner join edits on edit_predictions.edit_id = edits.edit_id
inner join predictions
    on
        edits.network_id = predictions.network_id
        and edit_predictions.image_id = predictions.image_id
where edit_predictions.image_id = $image and edits.control is null
order by changed desc, edits.edit_id
limit 60
