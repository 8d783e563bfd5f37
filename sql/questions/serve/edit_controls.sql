-- Where does one edit lie among its controls?
-- grain: edit_id, split_id, control
-- parameters: edit_id

select *
from edit_controls
where edit_id = $edit_id
order by split_id, control
limit 100
