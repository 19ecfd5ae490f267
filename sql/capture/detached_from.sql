-- What a table that is being detached CONCURRENTLY, or is below one that is, has been a partition of, on all levels:
-- $1 the table. Nothing for others.
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
