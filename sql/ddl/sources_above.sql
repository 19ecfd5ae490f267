-- The sources of a table and of those that it is a partition of, on any level: $1 the table. Locks none of them. Other
-- inheritance is left out, because each of those tables has rows of its own. Returns the source, its mode, its table
-- and the owner of that.
with recursive above (oid) as (
    select $1::pg_catalog.oid
    union
    select i.inhparent
    from above as a
    join pg_catalog.pg_inherits as i on i.inhrelid = a.oid
)
select s.id, s.mode, w.oid, w.relowner
from above as a
join audit_algolia.source as s on s.relation = a.oid
join pg_catalog.pg_class as w on w.oid = s.relation and w.relkind = 'p'
order by s.id
