-- Which images did the shown edit gain, and which did it lose? Twelve of each: those on which it is most confident.
-- grain: image_id
--
-- On the last split on which the edit was measured. num_images: all images that were gained, or lost.

select
    edit_flips.split,
    edit_flips.kind,
    edit_flips.image_id,
    edit_flips.true_class,
    edit_flips.class_before,
    edit_flips.class_after,
    edit_flips.confidence_after,
    regexp_replace(images.path, '^.*[/\\]', '') as file,
    images.thumbnail,
    count(*) over (partition by edit_flips.kind) as num_images
from edit_flips
inner join latest_edits
    on
        edit_flips.edit_id = latest_edits.edit_id
        and edit_flips.split_id = latest_edits.last_split_id
inner join shown_dissection on latest_edits.dissection_id = shown_dissection.dissection_id
inner join images on edit_flips.image_id = images.image_id
where edit_flips.kind in ('gained', 'lost')
qualify
    row_number() over (
        partition by edit_flips.kind
        order by edit_flips.confidence_after desc, edit_flips.image_id
    ) <= 12
order by edit_flips.kind, edit_flips.confidence_after desc, edit_flips.image_id
