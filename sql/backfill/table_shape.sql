-- What is needed to read a table in order: $1 the table, $2 the key columns, $3 the time column or NULL. Returns its
-- schema and name, whether it is partitioned, the key columns in the order of a unique index over them (empty: there
-- is none), whether any of them is nullable, the type of the time column, whether it is nullable, whether an index
-- begins with it, and whether the text of a key column may be other than ASCII. A NOT NULL constraint that is not
-- validated leaves the nulls that there are.
with nullable as (
    select a.attnum, a.attname::text as name
    from pg_catalog.pg_attribute as a
    where a.attrelid = $1
        and (
            not a.attnotnull
            or exists (
                select
                from pg_catalog.pg_constraint as c
                where c.conrelid = a.attrelid
                    and c.contype = 'n'
                    and c.conkey = array[a.attnum]
                    and not c.convalidated
            )
        )
), usable as (
    select i.*
    from pg_catalog.pg_index as i
    join pg_catalog.pg_class as x on x.oid = i.indexrelid
    join pg_catalog.pg_am as m on m.oid = x.relam
    where i.indrelid = $1 and i.indisvalid and i.indpred is null and m.amname = 'btree'
)
select
    n.nspname::text,
    c.relname::text,
    c.relkind = 'p',
    coalesce(
        (
            select array(
                select a.attname::text
                from pg_catalog.unnest(i.indkey) with ordinality as k (attnum, place)
                join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum = k.attnum
                where k.place <= i.indnkeyatts
                order by k.place
            )
            from usable as i
            where i.indisunique
                and i.indnkeyatts = pg_catalog.cardinality($2)
                and not exists (
                    select
                    from pg_catalog.unnest(i.indkey) with ordinality as k (attnum, place)
                    left join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum = k.attnum
                    left join pg_catalog.pg_opclass as o on o.oid = i.indclass[(k.place - 1)::integer]
                    where k.place <= i.indnkeyatts
                        -- Uniqueness in another order or collation is not uniqueness in the column's own.
                        and (
                            a.attname is null
                            or a.attname::text <> all ($2)
                            or o.opcdefault is not true
                            or i.indcollation[(k.place - 1)::integer] <> a.attcollation
                        )
                )
            order by i.indisprimary desc, i.indexrelid
            limit 1
        ),
        '{}'
    ),
    exists (select from nullable as a where a.name = any ($2)),
    t.atttypid,
    exists (select from nullable as a where a.attnum = t.attnum),
    exists (select from usable as i where i.indkey[0] = t.attnum),
    exists (
        select
        from pg_catalog.pg_attribute as a
        join pg_catalog.pg_type as y on y.oid = a.atttypid
        where a.attrelid = c.oid and a.attname::text = any ($2) and y.typcategory in ('S', 'E', 'A', 'C', 'R')
    )
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
left join pg_catalog.pg_attribute as t on t.attrelid = c.oid and t.attname::text = $3 and not t.attisdropped
where c.oid = $1
