-- The schema and name of a table, and whether it is partitioned: $1 the table.
select n.nspname::text, c.relname::text, c.relkind = 'p'
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where c.oid = $1
