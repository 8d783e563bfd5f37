-- Which dissection do the pages show, and what was it made from?
-- grain: dissection_id

select *
from dissection_summary
where shown
