-- The partitions of a table that have rows of their own: $1 the table.
select n.nspname::text, c.relname::text
from pg_catalog.pg_partition_tree($1) as p
join pg_catalog.pg_class as c on c.oid = p.relid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where p.isleaf and p.level > 0
    and c.relkind = 'r'
