-- A table, or its partitions, and the numbers of their files: $1 the table.
select c.oid, pg_catalog.pg_relation_filenode(c.oid::pg_catalog.regclass)
from pg_catalog.pg_class as c
where c.relkind = 'r'
    and (
        c.oid = $1
        or c.oid in (select p.relid from pg_catalog.pg_partition_tree($1) as p)
    )
order by c.oid
