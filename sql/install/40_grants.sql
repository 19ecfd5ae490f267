-- PUBLIC gets nothing. Administrators grant watch() to table owners who are to call it themselves.
revoke all on all tables in schema audit_algolia from public;
revoke all on all sequences in schema audit_algolia from public;
revoke all on all functions in schema audit_algolia from public;
revoke all on schema audit_algolia from public;
-- A column of such a type, in somebody's table, would block DROP EXTENSION.
revoke all on type
    audit_algolia.index, audit_algolia.source, audit_algolia.queue, audit_algolia.dead_letter,
    audit_algolia.configuration, audit_algolia.backfill, audit_algolia.repair, audit_algolia.prepared_alert,
    audit_algolia.sources, audit_algolia.dead_letters, audit_algolia.backfill_progress
from public;
-- The server records these revocations in pg_init_privs as part of the extension. pg_dump does not expect such entries for row
-- types and would warn at each dump. CREATE EXTENSION repeats the revocations, so the entries are deleted.
delete from pg_catalog.pg_init_privs as p
using pg_catalog.pg_type as t
where p.classoid operator(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass::pg_catalog.oid
    and p.objoid operator(pg_catalog.=) t.oid
    and t.typnamespace operator(pg_catalog.=) 'audit_algolia'::pg_catalog.regnamespace::pg_catalog.oid;

-- The extension's owner needs the schema even if somebody else created it.
grant usage on schema audit_algolia to current_user;

grant usage on schema audit_algolia to pg_monitor;
grant execute on function audit_algolia.queue_stats() to pg_monitor;
grant execute on function audit_algolia.worker_stats() to pg_monitor;
grant execute on function audit_algolia.metrics() to pg_monitor;

comment on schema audit_algolia is 'Keeps Algolia indices in step with audit tables, from inside the database.';
