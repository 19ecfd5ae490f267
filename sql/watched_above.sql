-- The sources of tables, and of those that they are partitions or children of, on whatever level: $1 the tables. Locks
-- none of them. Returns the one of $1, and the source's id, table and mode.
with recursive above (member, oid) as (
    select m.oid, m.oid
    from pg_catalog.unnest($1::pg_catalog.oid[]) as m (oid)
    union
    select a.member, i.inhparent
    from above as a
    join pg_catalog.pg_inherits as i on i.inhrelid = a.oid
)
select a.member, s.id, s.relation::pg_catalog.oid, s.mode
from above as a
join audit_algolia.source as s on s.relation = a.oid
