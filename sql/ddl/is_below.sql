-- Whether a table is a partition of another, on any level: $1 the table, $2 the other. Locks neither.
with recursive above (oid) as (
    select $1::pg_catalog.oid
    union
    select i.inhparent
    from above as a
    join pg_catalog.pg_inherits as i on i.inhrelid = a.oid
)
select $2 in (select a.oid from above as a)
