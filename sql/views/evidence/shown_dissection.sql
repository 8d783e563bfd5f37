-- The dissection that the public views show: the newest, unless the session names another.
-- grain: dissection_id
--
-- In the duckdb shell: set variable dissection = 1; with dissectdb: query --dissection 1 "…".

select coalesce(nd_named_dissection(), max(dissection_id)) as dissection_id
from dissections
