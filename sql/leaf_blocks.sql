-- The table that rows are to be read from by their place: $1 the table or the root of its partitions or chunks, $2 the one
-- that is being read, NULL for the first, $3 whether $1 is a hypertable. Those made last come first. Returns its oid,
-- schema, name, file and blocks.
select
    c.oid,
    n.nspname::text,
    c.relname::text,
    pg_catalog.pg_relation_filenode(c.oid::pg_catalog.regclass),
    pg_catalog.pg_relation_size(c.oid::pg_catalog.regclass)
        / pg_catalog.current_setting('block_size')::pg_catalog.int8
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where c.relkind = 'r'
    and (
        c.oid = $1
        or c.oid in (select p.relid from pg_catalog.pg_partition_tree($1) as p)
        or ($3 and c.oid in (select i.inhrelid from pg_catalog.pg_inherits as i where i.inhparent = $1))
    )
    and ($2 is null or c.oid <= $2)
order by c.oid desc
limit 1
