-- Which rights a user lacks to create our triggers on a table: $1 the user, $2 whether it is a hypertable. Returns the
-- user's name, whether EXECUTE on the trigger function is missing, and whether USAGE on the schema is. No row: none is
-- missing.
select r.rolname::text, l.execute, l.usage
from pg_catalog.pg_roles as r
cross join lateral (
    select
        not pg_catalog.has_function_privilege(r.oid, 'audit_algolia.capture()', 'execute') as execute,
        $2 and not pg_catalog.has_schema_privilege(r.oid, 'audit_algolia', 'usage') as usage
) as l
where r.oid = $1 and (l.execute or l.usage)
