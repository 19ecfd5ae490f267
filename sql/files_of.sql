-- A table, or its partitions or chunks, and the numbers of their files: $1 the table, $2 whether it is a hypertable.
select c.oid, pg_catalog.pg_relation_filenode(c.oid::pg_catalog.regclass)
from pg_catalog.pg_class as c
where c.relkind = 'r'
    and (
        c.oid = $1
        or c.oid in (select p.relid from pg_catalog.pg_partition_tree($1) as p)
        or ($2 and c.oid in (select i.inhrelid from pg_catalog.pg_inherits as i where i.inhparent = $1))
    )
order by c.oid
