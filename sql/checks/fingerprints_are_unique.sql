-- A row is a fingerprint that several entries of a table share, so that the same content is stored more than once.

select 'datasets' as table_name, fingerprint, count(*) as times
from datasets
group by fingerprint
having count(*) > 1
union all
select 'concept_sets' as table_name, fingerprint, count(*) as times
from concept_sets
group by fingerprint
having count(*) > 1
union all
select 'clips' as table_name, fingerprint, count(*) as times
from clips
group by fingerprint
having count(*) > 1
union all
select 'networks' as table_name, fingerprint, count(*) as times
from networks
group by fingerprint
having count(*) > 1
union all
select 'extractions' as table_name, fingerprint, count(*) as times
from extractions
group by fingerprint
having count(*) > 1
union all
select 'dissections' as table_name, fingerprint, count(*) as times
from dissections
group by fingerprint
having count(*) > 1
union all
select 'edits' as table_name, fingerprint, count(*) as times
from edits
group by fingerprint
having count(*) > 1
union all
select 'ablations' as table_name, fingerprint, count(*) as times
from ablations
group by fingerprint
having count(*) > 1
