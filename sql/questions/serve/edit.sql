-- What did one edit do on each split?
-- grain: edit_id, split_id
-- parameters: edit_id

select edit_results.*, edits.name, edits.factor_down, edits.sql
from edit_results
inner join edits on edit_results.edit_id = edits.edit_id
where edit_results.edit_id = $edit_id
order by edit_results.split_id
limit 100
