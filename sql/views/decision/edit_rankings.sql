-- The edits that were tried, best first, on each split: the one of rank 1 is what a search on that split chooses.
-- grain: edit_id, split_id
-- public
--
-- More right images are better; of equals the smaller loss, then the one that was tried first. Controls do not take part.

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
