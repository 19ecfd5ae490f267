-- Nothing for PUBLIC. Table owners who are to call watch() themselves are given it by the administrator.
revoke all on all tables in schema audit_algolia from public;
revoke all on all sequences in schema audit_algolia from public;
revoke all on all functions in schema audit_algolia from public;
revoke all on schema audit_algolia from public;
-- A column of such a type, in somebody's table, would stand in the way of DROP EXTENSION.
revoke all on type
    audit_algolia.index, audit_algolia.source, audit_algolia.queue, audit_algolia.dead_letter,
    audit_algolia.configuration, audit_algolia.backfill,
    audit_algolia.sources, audit_algolia.dead_letters, audit_algolia.backfill_progress
from public;

-- The extension's owner works in the schema also when somebody else has made it.
grant usage on schema audit_algolia to current_user;

grant usage on schema audit_algolia to pg_monitor;
grant execute on function audit_algolia.queue_stats() to pg_monitor;
grant execute on function audit_algolia.worker_stats() to pg_monitor;
grant execute on function audit_algolia.metrics() to pg_monitor;

comment on schema audit_algolia is 'Keeps Algolia indices in step with audit tables, from inside the database.';
