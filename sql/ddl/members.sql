-- A table and its partitions on all levels, or the chunks of a hypertable: $1 the table, $2 whether it is a
-- hypertable. Locks none of them. A partition that is being detached CONCURRENTLY is left out. Returns oid and kind.
with recursive below (oid, kind) as (
    select c.oid, c.relkind
    from pg_catalog.pg_class as c
    where c.oid = $1
    union all
    select c.oid, c.relkind
    from below as b
    join pg_catalog.pg_inherits as i on i.inhparent = b.oid and not i.inhdetachpending
    join pg_catalog.pg_class as c on c.oid = i.inhrelid
    where b.kind = 'p' or ($2 and b.oid = $1)
)
select b.oid, b.kind
from below as b
order by b.oid
