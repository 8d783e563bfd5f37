-- The edits that were tried on each split, best first; a search on the split chooses rank 1.
-- grain: edit_id, split_id
-- public
--
-- More right images are better. Among equals the smaller loss is better, then the edit that was tried first. Controls
-- are not ranked.

select
    edits.edit_id,
    edits.name,
    edit_outcomes.correct_after,
    edit_outcomes.loss_after,
    row_number() over (
        partition by edits.network_id, edit_outcomes.split_id
        order by edit_outcomes.correct_after desc, edit_outcomes.loss_after, edits.edit_id
    ) as rank,
    count(*) over (partition by edits.network_id, edit_outcomes.split_id) as edits_tried,
    edits.network_id,
    edit_outcomes.split_id
from edits
inner join edit_outcomes on edits.edit_id = edit_outcomes.edit_id
where edits.control is null
