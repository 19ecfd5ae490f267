-- The partitions of a table, on all levels: $1 the table.
select p.relid::pg_catalog.oid
from pg_catalog.pg_partition_tree($1) as p
where p.relid <> $1
