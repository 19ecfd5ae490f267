-- Watched tables, partitioned or with children, whose owners lack a right that putting triggers on a new partition or
-- chunk takes: because they have not always been the owners. $1 the tables to be looked at.
select c.oid, pg_catalog.pg_get_userbyid(c.relowner)::text, c.relkind = 'p'
from pg_catalog.pg_class as c
where c.oid = any ($1)
    and c.oid in (select s.relation from audit_algolia.source as s)
    and (c.relkind = 'p' or c.relhassubclass)
    and not (
        pg_catalog.has_function_privilege(c.relowner, 'audit_algolia.capture()', 'execute')
        and (c.relkind = 'p' or pg_catalog.has_schema_privilege(c.relowner, 'audit_algolia', 'usage'))
    )
