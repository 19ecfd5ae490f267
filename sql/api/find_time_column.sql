-- What activity() needs to know of a table: $1 the table, $2 the caller, whose rights decide. Of several sources it
-- takes the first that has a time column. No row: there is no such table.
select
    pg_catalog.has_any_column_privilege($2, c.oid, 'select'),
    n.nspname::text,
    c.relname::text,
    s.id is not null,
    s.time_column,
    a.atttypid,
    array(
        select b.attname::text
        from pg_catalog.pg_attribute as b
        where b.attrelid = c.oid and b.attnum > 0 and not b.attisdropped
        order by b.attnum
    )
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
left join lateral (
    select o.id, o.time_column
    from audit_algolia.source as o
    where o.relation = c.oid
    order by o.time_column is null, o.id
    limit 1
) as s on true
left join pg_catalog.pg_attribute as a
    on a.attrelid = c.oid
    and a.attname = s.time_column::pg_catalog.name
    and a.attnum > 0
    and not a.attisdropped
where c.oid = $1
