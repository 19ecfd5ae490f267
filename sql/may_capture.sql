-- The name of a user, $1, who may not call the trigger function. No row: they may.
select r.rolname::text
from pg_catalog.pg_roles as r
where r.oid = $1
    and not pg_catalog.has_function_privilege(r.oid, 'audit_algolia.capture()', 'execute')
