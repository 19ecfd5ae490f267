-- The mirrored sources of a table, and of those that it is a partition of, on whatever level: $1 the table. Locks none of
-- them. Only partitioned tables have partitions; what else inherits has rows of its own. Returns the source, its table and
-- that one's owner.
with recursive above (oid) as (
    select $1::pg_catalog.oid
    union
    select i.inhparent
    from above as a
    join pg_catalog.pg_inherits as i on i.inhrelid = a.oid
)
select s.id, w.oid, w.relowner
from above as a
join audit_algolia.source as s on s.relation = a.oid
join pg_catalog.pg_class as w on w.oid = s.relation and w.relkind = 'p'
where s.mode = 'mirror'
order by s.id
