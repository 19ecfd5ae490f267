-- What the current statement has done to tables, as the server has collected it. It runs under the search_path of
-- whoever executes that statement, so the operator is schema-qualified.
select c.command
from pg_catalog.pg_event_trigger_ddl_commands() as c
where c.classid operator(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
