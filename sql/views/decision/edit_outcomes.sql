-- How each edit and each control changed the network's predictions, counted per split.
-- grain: edit_id, split_id
-- materialized: table
--
-- Only images count whose class is an output of the network. gained: images that are right only after. lost: images
-- that are right only before. changed: images with another predicted class, right or wrong.

select
    edits.edit_id,
    images.split_id,
    count(*) as images,
    count(*) filter (where before.class = images.class) as correct_before,
    count(*) filter (where after.class = images.class) as correct_after,
    avg(before.loss) as loss_before,
    avg(after.loss) as loss_after,
    count(*) filter (where after.class = images.class and before.class <> images.class) as gained,
    count(*) filter (where before.class = images.class and after.class <> images.class) as lost,
    count(*) filter (where after.class <> before.class) as changed
from edits
inner join finished_edits on edits.edit_id = finished_edits.edit_id
inner join edit_predictions as after on edits.edit_id = after.edit_id
inner join images
    on
        after.image_id = images.image_id
        and finished_edits.split_id = images.split_id
inner join predictions as before
    on
        edits.network_id = before.network_id
        and after.image_id = before.image_id
inner join network_outputs
    on
        edits.network_id = network_outputs.network_id
        and images.class = network_outputs.class
group by edits.edit_id, images.split_id
