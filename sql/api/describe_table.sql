-- What watch() needs to know of a table: $1 the table, $2 the caller, whose rights decide.
select
    c.relkind::text,
    c.relispartition,
    c.relpersistence::text,
    n.nspname::text,
    c.relname::text,
    pg_catalog.pg_has_role($2, c.relowner, 'usage'),
    array(
        select a.attname::text
        from pg_catalog.pg_attribute as a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        order by a.attnum
    ),
    array(
        select a.attname::text
        from pg_catalog.pg_index as i
        cross join lateral pg_catalog.unnest(i.indkey) with ordinality as k (attnum, place)
        join pg_catalog.pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum
        where i.indrelid = c.oid and i.indisprimary and k.place <= i.indnkeyatts
        order by k.place
    ),
    c.relowner,
    array(
        select a.attname::text
        from pg_catalog.pg_attribute as a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = 'v'
        order by a.attnum
    )
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where c.oid = $1
