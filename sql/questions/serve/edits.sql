-- What did each edit do to the predictions of a split? At most 200, best first on each split.
-- grain: edit_id, split_id

select edit_results.*, edits.name
from edit_results
inner join edits on edit_results.edit_id = edits.edit_id
order by edit_results.split_id desc, edit_results.correct_after desc, edit_results.loss_after, edit_results.edit_id
limit 200
