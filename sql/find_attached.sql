-- Watched tables that have become partitions since, and whose triggers do not see rows that come through the root.
select s.id, n.nspname::text, c.relname::text
from audit_algolia.source as s
join pg_catalog.pg_class as c on c.oid = s.relation and c.relispartition
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_trigger as t
    on t.tgrelid = c.oid
    and t.tgname = pg_catalog.format('audit_algolia_%s', s.id)::pg_catalog.name
    and t.tgtype & 1 = 0
