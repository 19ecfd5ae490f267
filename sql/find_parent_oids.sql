-- The tables of a partition tree that have partitions rather than rows, by oid: $1 the topmost.
select p.relid::pg_catalog.oid
from pg_catalog.pg_partition_tree($1) as p
where not p.isleaf
