-- How many rows does each table hold, about?
-- grain: table_name
-- engine: duckdb

select table_name, estimated_size as rows
from duckdb_tables()
where estimated_size > 0
order by estimated_size desc
