-- Partitions that leave mirrored tables together with what is dropped: $1 tables; $2 schemas and $3 owners, of which
-- all tables are dropped; $4 the role that drops them. What that role may not drop, the server will not drop. If the
-- watched table is dropped as well, the partition is left out, because its source goes with it. Locks nothing. Returns
-- the source, its table and owner, the partition, and its parent.
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
