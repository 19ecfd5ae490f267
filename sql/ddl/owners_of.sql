-- Watched tables that are partitioned or have children, and their owners: $1 the tables to look at. Returns table,
-- owner, and whether it is partitioned.
select c.oid, c.relowner, c.relkind = 'p'
from pg_catalog.pg_class as c
where c.oid = any ($1)
    and c.oid in (select s.relation from audit_algolia.source as s)
    and (c.relkind = 'p' or c.relhassubclass)
