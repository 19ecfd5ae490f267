-- A table to be read by place: $1 the table, which is locked. Returns its schema, name, file and number of blocks.
select
    n.nspname::text,
    c.relname::text,
    pg_catalog.pg_relation_filenode(c.oid::pg_catalog.regclass),
    pg_catalog.pg_relation_size(c.oid::pg_catalog.regclass)
        / pg_catalog.current_setting('block_size')::pg_catalog.int8
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where c.oid = $1
