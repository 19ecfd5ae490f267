-- Partitions of mirrored tables that lack the trigger which TRUNCATE calls before it empties them.
select s.id, n.nspname::text, c.relname::text
from audit_algolia.source as s
cross join lateral pg_catalog.pg_partition_tree(s.relation) as p
join pg_catalog.pg_class as c on c.oid = p.relid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where s.mode = 'mirror'
    and p.isleaf and p.level > 0
    and c.relkind = 'r'
    and not exists (
        select
        from pg_catalog.pg_trigger as t
        where t.tgrelid = c.oid
            and t.tgname = pg_catalog.format('audit_algolia_%s_truncate', s.id)::pg_catalog.name
    )
