-- How many images of each true class did one edit turn right, and how many wrong?
-- grain: split_id, true_class
-- parameters: edit_id

select split, true_class, flips, gained, lost, split_id
from edit_flips_by_class
where edit_id = $edit_id
order by split_id, flips desc, true_class
limit 200
