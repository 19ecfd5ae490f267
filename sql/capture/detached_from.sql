-- The tables, on all levels, that a table or one above it is being detached from by DETACH CONCURRENTLY: $1 the table.
-- No row for other tables.
with recursive above (oid, is_pending) as (
    select $1::pg_catalog.oid, false
    union
    select i.inhparent, a.is_pending or i.inhdetachpending
    from above as a
    join pg_catalog.pg_inherits as i on i.inhrelid = a.oid
)
select a.oid
from above as a
where a.is_pending
