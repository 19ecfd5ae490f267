-- Triggers that call capture() for a source that is not one of their table: $1 the tables. Such triggers come with a
-- table, as from a dump of the schema alone, or outlive its being a partition. Returns their table and name.
select t.tgrelid, t.tgname::text
from pg_catalog.pg_trigger as t
-- Each argument ends with a zero byte.
cross join lateral (
    select pg_catalog.split_part(pg_catalog.encode(t.tgargs, 'escape'), E'\\000', 1) as id
) as a
where t.tgrelid = any ($1)
    and t.tgfoid = 'audit_algolia.capture()'::pg_catalog.regprocedure
    -- Triggers that partitions inherited are dropped with their parent's.
    and t.tgparentid = 0
    and not exists (
        select
        from audit_algolia.source as s
        where s.id::text = a.id
            and (
                s.relation = t.tgrelid
                or s.relation in (select p.relid from pg_catalog.pg_partition_ancestors(t.tgrelid) as p)
                or s.relation in (select i.inhparent from pg_catalog.pg_inherits as i where i.inhrelid = t.tgrelid)
            )
    )
