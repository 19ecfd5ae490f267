-- Partitions that leave mirrored tables together with what is dropped: $1 tables, $2 schemas and $3 owners all of whose
-- tables are, $4 who drops them: what that one may not drop, the server will not. Where a watched table is dropped, too, its
-- source goes with it. Locks none of them. Returns the source, its table and that one's owner, the partition, and what it
-- is a partition of.
with recursive named (oid, relowner, relnamespace) as (
    select c.oid, c.relowner, c.relnamespace from pg_catalog.pg_class as c where c.oid = any ($1)
    union
    select c.oid, c.relowner, c.relnamespace
    from pg_catalog.pg_class as c
    where ($2 <> '{}' or $3 <> '{}')
        and (c.relnamespace = any ($2) or c.relowner = any ($3))
        and c.relkind in ('r', 'p')
),
going (oid) as (
    select m.oid
    from named as m
    join pg_catalog.pg_namespace as n on n.oid = m.relnamespace
    where pg_catalog.pg_has_role($4, m.relowner, 'usage') or pg_catalog.pg_has_role($4, n.nspowner, 'usage')
    union
    select i.inhrelid
    from going as g
    join pg_catalog.pg_inherits as i on i.inhparent = g.oid
),
above (leaf, oid) as (
    select c.oid, c.oid
    from going as g
    join pg_catalog.pg_class as c on c.oid = g.oid
    where c.relkind = 'r' and c.relispartition
    union
    select a.leaf, i.inhparent
    from above as a
    join pg_catalog.pg_inherits as i on i.inhrelid = a.oid
)
select s.id, w.oid, w.relowner, a.leaf, i.inhparent
from above as a
join audit_algolia.source as s on s.relation = a.oid
join pg_catalog.pg_class as w on w.oid = s.relation and w.relkind = 'p'
join pg_catalog.pg_inherits as i on i.inhrelid = a.leaf
where s.mode = 'mirror'
    and not exists (select from going as g where g.oid = w.oid)
order by a.leaf, s.id
