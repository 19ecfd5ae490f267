-- Watched tables, partitioned or with children, whose owners lack a right that putting triggers on a new partition or
-- chunk takes: because they have not always been the owners.
select s.relation::pg_catalog.oid, pg_catalog.pg_get_userbyid(c.relowner)::text, c.relkind = 'p'
from audit_algolia.source as s
join pg_catalog.pg_class as c on c.oid = s.relation
where (c.relkind = 'p' or c.relhassubclass)
    and not (
        pg_catalog.has_function_privilege(c.relowner, 'audit_algolia.capture()', 'execute')
        and (c.relkind = 'p' or pg_catalog.has_schema_privilege(c.relowner, 'audit_algolia', 'usage'))
    )
