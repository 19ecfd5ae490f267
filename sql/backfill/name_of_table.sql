-- A table as a query names it: $1 the table. Returns its schema and name, and whether it is partitioned.
select n.nspname::text, c.relname::text, c.relkind = 'p'
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where c.oid = $1
