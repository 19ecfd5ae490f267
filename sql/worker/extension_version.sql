-- The version of the extension's SQL objects. It runs under any search_path, so the operator is schema-qualified.
select e.extversion
from pg_catalog.pg_extension as e
where e.extname operator(pg_catalog.=) 'audit_algolia'::pg_catalog.name
