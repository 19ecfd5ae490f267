-- The partitions of a table, on all levels, or the chunks of a hypertable: $1 the table, $2 whether it is a hypertable.
select p.relid::pg_catalog.oid
from pg_catalog.pg_partition_tree($1) as p
where p.relid <> $1
union all
select i.inhrelid
from pg_catalog.pg_inherits as i
where $2 and i.inhparent = $1
