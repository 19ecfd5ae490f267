-- Whether columns are a key that two rows never share, not even within a transaction: $1 the table, $2 the columns.
-- That takes a unique index over exactly these columns, complete, not deferrable, of equal values and not of periods
-- that overlap, and no nullable column. A NOT NULL constraint that is not validated leaves the nulls that there are.
select exists (
    select
    from pg_catalog.pg_index as i
    join pg_catalog.pg_class as x on x.oid = i.indexrelid
    join pg_catalog.pg_am as m on m.oid = x.relam and m.amname = 'btree'
    where i.indrelid = $1
        and i.indisunique
        and i.indimmediate
        and i.indisvalid
        and i.indpred is null
        and i.indexprs is null
        and array(
            select a.attname::text
            from pg_catalog.pg_attribute as a
            where a.attrelid = i.indrelid
                and a.attnotnull
                and not exists (
                    select
                    from pg_catalog.pg_constraint as c
                    where c.conrelid = a.attrelid
                        and c.contype = 'n'
                        and c.conkey = array[a.attnum]
                        and not c.convalidated
                )
                and a.attnum = any ((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1])
            order by a.attname::text
        ) = array(select c.name from pg_catalog.unnest($2) as c (name) order by c.name)
        and i.indnkeyatts = pg_catalog.cardinality($2)
)
