-- The dissection that the public views show: the newest, unless the session selects another.
-- grain: dissection_id
--
-- To select one, in a DuckDB shell: set variable dissection = 1; with dissectdb: query --dissection 1 "…".

select coalesce(nd_named_dissection(), max(dissection_id)) as dissection_id
from dissections
