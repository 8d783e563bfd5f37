-- Which images changed their class by one edit? One page of them.
-- grain: image_id
-- parameters: edit_id, kind, first, size
-- engine: duckdb
--
-- $kind: gained, lost, other, or NULL for all. found: all that there are.

select
    image_id,
    split,
    true_class,
    class_before,
    class_after,
    kind,
    confidence_before,
    confidence_after,
    count(*) over () as found
from edit_flips
where edit_id = $edit_id and coalesce(kind, '') = coalesce($kind, kind, '')
order by confidence_after desc, image_id
limit $size offset $first
