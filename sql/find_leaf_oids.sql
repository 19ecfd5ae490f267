-- The partitions of a table that have rows of their own, by oid: $1 the table.
select p.relid::pg_catalog.oid
from pg_catalog.pg_partition_tree($1) as p
join pg_catalog.pg_class as c on c.oid = p.relid
where p.isleaf and p.level > 0
    and c.relkind = 'r'
