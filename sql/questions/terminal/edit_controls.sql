-- How does an edit compare with its controls, on each split and by each kind of control?
-- grain: split, control
-- parameters: edit_id

select split, control, draws, difference, percentile, p, lowest, mean, highest
from edit_controls
where edit_id = $edit_id
order by split_id, control
