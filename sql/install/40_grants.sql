-- Nothing for PUBLIC. Table owners who are to call watch() themselves are given it by the administrator.
revoke all on all tables in schema audit_algolia from public;
revoke all on all sequences in schema audit_algolia from public;
revoke all on all functions in schema audit_algolia from public;
revoke all on schema audit_algolia from public;
-- A column of such a type, in somebody's table, would stand in the way of DROP EXTENSION.
revoke all on type
    audit_algolia.index, audit_algolia.source, audit_algolia.queue, audit_algolia.dead_letter,
    audit_algolia.configuration, audit_algolia.backfill, audit_algolia.repair,
    audit_algolia.sources, audit_algolia.dead_letters, audit_algolia.backfill_progress
from public;
-- The server keeps such a change in mind as part of how the extension was made, for pg_dump, which knows of no such thing for
-- row types and says so at each dump. They have nothing to be dumped: CREATE EXTENSION makes them like this.
delete from pg_catalog.pg_init_privs as p
using pg_catalog.pg_type as t
where p.classoid operator(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass::pg_catalog.oid
    and p.objoid operator(pg_catalog.=) t.oid
    and t.typnamespace operator(pg_catalog.=) 'audit_algolia'::pg_catalog.regnamespace::pg_catalog.oid;

-- The extension's owner works in the schema also when somebody else has made it.
grant usage on schema audit_algolia to current_user;

grant usage on schema audit_algolia to pg_monitor;
grant execute on function audit_algolia.queue_stats() to pg_monitor;
grant execute on function audit_algolia.worker_stats() to pg_monitor;
grant execute on function audit_algolia.metrics() to pg_monitor;

comment on schema audit_algolia is 'Keeps Algolia indices in step with audit tables, from inside the database.';
