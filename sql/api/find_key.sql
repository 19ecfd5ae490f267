-- Whether columns are a key that two rows never share, not even within a transaction: $1 the table, $2 the columns.
-- That takes a unique index over exactly these columns, complete, not deferrable, and no nullable column.
select exists (
    select
    from pg_catalog.pg_index as i
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
                and a.attnum = any ((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1])
            order by a.attname::text
        ) = array(select c.name from pg_catalog.unnest($2) as c (name) order by c.name)
        and i.indnkeyatts = pg_catalog.cardinality($2)
)
