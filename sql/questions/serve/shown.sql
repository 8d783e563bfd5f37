-- Which dissection do the pages show, and what was it made from?
-- grain: dissection_id
--
-- has_network: whether its neurons can be silenced and edited; those of arrays cannot.

select
    dissection_summary.*,
    networks.architecture <> 'arrays' as has_network
from dissection_summary
inner join networks on dissection_summary.network_id = networks.network_id
where dissection_summary.shown
