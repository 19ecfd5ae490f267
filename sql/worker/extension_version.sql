-- The version of the extension's SQL objects.
select e.extversion
from pg_catalog.pg_extension as e
where e.extname = 'audit_algolia'
