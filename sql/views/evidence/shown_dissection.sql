-- The dissection that the public views show: the newest of a network that is no control, unless the session names one.
-- grain: dissection_id
--
-- To name one, in a DuckDB shell: set variable dissection = 1; with dissectdb: query --dissection 1 "…".

select coalesce(nd_named_dissection(), max(dissection_id)) as dissection_id
from dissections
where network_id not in (select network_id from control_networks)
