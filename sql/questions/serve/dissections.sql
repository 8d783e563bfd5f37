-- Which dissections does the warehouse hold? The newest 200.
-- grain: dissection_id

select *
from dissection_summary
order by dissection_id desc
limit 200
