-- The SQL interface. Functions that only read or write the extension's tables run with the owner's rights and a pinned
-- search_path. Functions that act on a user's table run with the caller's rights, which decide what they may do, and switch
-- to the owner's rights themselves. A security definer knows only the session's user, who is not the caller if the call comes
-- from an index expression under ANALYZE or from another security definer.

create function audit_algolia.capture() returns trigger
    language c
    as 'MODULE_PATHNAME', 'audit_algolia_capture';
comment on function audit_algolia.capture() is
    'Trigger function of watched tables: copies the allowed columns of changed rows into the queue. audit_algolia.watch() creates its triggers.';

-- It keeps the caller's search_path, which resolves the names in filter and alert, and pins its own before it does anything else.
create function audit_algolia.watch(
    source regclass,
    index_name text default null,
    columns text[] default null,
    pseudonymize text[] default '{}',
    object_id text[] default null,
    filter text default null,
    operations text[] default '{insert}',
    mode text default 'append',
    time_column text default null,
    facets text[] default '{}',
    backfill boolean default false,
    object_prefix text default '',
    alert text default null)
    returns integer
    language c volatile
    as 'MODULE_PATHNAME', 'watch_0_2_wrapper';
comment on function audit_algolia.watch(regclass, text, text[], text[], text[], text, text[], text, text, text[], boolean, text, text) is
    'Watches a table: from now on its committed changes are delivered to an Algolia index. Returns the source''s id. Needs ownership of the table.';

-- It keeps the caller's search_path, because event triggers see the dropping of triggers as the caller's statement.
create function audit_algolia.unwatch(source regclass, index_name text default null)
    returns void
    language c volatile
    as 'MODULE_PATHNAME', 'unwatch_wrapper';
comment on function audit_algolia.unwatch(regclass, text) is
    'Stops watching a table, for one index or (NULL) for all. Queued rows are still delivered. Needs ownership of the table.';

-- It reads with the caller's rights, so it shows only rows that the caller may read.
create function audit_algolia.preview(source regclass, max_rows integer default 10)
    returns setof jsonb
    language c stable
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'preview_wrapper';
comment on function audit_algolia.preview(regclass, integer) is
    'Shows the records that would be sent for rows of a watched table, newest rows first. Needs ownership of the table.';

-- It reads the table with the caller's rights. Rows hidden from the caller would look like deleted rows, so they raise an error.
create function audit_algolia.reconcile(
    source regclass,
    since timestamptz default null,
    until timestamptz default null,
    repair boolean default false)
    returns table (checked bigint, missing bigint, different bigint, orphaned bigint, repaired bigint)
    language c volatile
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'reconcile_wrapper';
comment on function audit_algolia.reconcile(regclass, timestamptz, timestamptz, boolean) is
    'Compares a watched table with its indices at Algolia and counts records that are missing, differ, or (mirror mode) have no row; repair => true queues repairs. Needs ownership of the table.';

-- It counts with the caller's rights, row-level security included.
create function audit_algolia.activity(
    source regclass,
    at timestamptz,
    span interval default '1 hour',
    actor_column text default 'user_id',
    action_column text default 'event')
    returns table (action text, events bigint, unique_actors bigint)
    language c stable
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'activity_wrapper';
comment on function audit_algolia.activity(regclass, timestamptz, interval, text, text) is
    'Counts events and distinct actors of a watched table per action, in the time window (at - span, at]; the row without an action is the total. Needs SELECT on the table.';

create function audit_algolia.pseudonym(value text)
    returns text
    language c stable strict security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'pseudonym_wrapper';
comment on function audit_algolia.pseudonym(text) is
    'Returns the pseudonym of a value under the current key. To resolve pseudonyms, compute them over your table of users.';

create function audit_algolia.backfill(
    source regclass,
    since timestamptz default null,
    until timestamptz default null,
    rows_per_second integer default null)
    returns void
    language c volatile
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'backfill_wrapper';
comment on function audit_algolia.backfill(regclass, timestamptz, timestamptz, integer) is
    'Delivers the rows that a watched table already has, newest first and after all live rows. Continues a stopped backfill with the same bounds. Needs ownership of the table.';

create function audit_algolia.cancel_backfill(source regclass)
    returns void
    language c volatile
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'cancel_backfill_wrapper';
comment on function audit_algolia.cancel_backfill(regclass) is
    'Stops the backfill of a watched table. Queued rows are still delivered. Needs ownership of the table.';

create function audit_algolia.secured_key(
    parent_key text,
    filters text,
    valid_until timestamptz default null,
    restrict_indices text[] default null)
    returns text
    language c stable
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'secured_key_wrapper';
comment on function audit_algolia.secured_key(text, text, timestamptz, text[]) is
    'Makes an Algolia key that can search what the parent key can, restricted to records that match the filters, to a time and to some indices. Computed locally, without a request.';

create function audit_algolia.queue_stats(
    out index_name text,
    out state text,
    out queued bigint,
    out in_flight bigint,
    out retrying bigint,
    out dead bigint,
    out oldest_queued_at timestamptz,
    out newest_queued_at timestamptz,
    out enqueued_total bigint,
    out delivered_total bigint,
    out failed_total bigint,
    out dead_total bigint,
    out delivered_per_second double precision,
    out last_delivered_at timestamptz,
    out last_error text,
    out last_error_at timestamptz,
    out stats_reset timestamptz,
    out repairs bigint,
    out repairs_total bigint)
    returns setof record
    language c volatile security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'queue_stats_wrapper';
comment on function audit_algolia.queue_stats() is
    'One row per index: state, waiting rows, rows in flight, delivered rows, dead letters and the last error.';

create function audit_algolia.worker_stats(
    out pid integer,
    out state text,
    out index_name text,
    out batch_rows integer,
    out batch_bytes bigint,
    out host text,
    out started_at timestamptz,
    out batch_started_at timestamptz,
    out batches_total bigint,
    out rows_total bigint,
    out errors_total bigint,
    out last_error text)
    returns setof record
    language c volatile security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'worker_stats_wrapper';
comment on function audit_algolia.worker_stats() is
    'One row per delivery worker of this database, with its latest batch.';

create function audit_algolia.metrics()
    returns text
    language c volatile security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'metrics_wrapper';
comment on function audit_algolia.metrics() is
    'Returns the numbers of queue_stats() and worker_stats() as OpenMetrics text, for a scraper.';

create function audit_algolia.reset_stats()
    returns void
    language c volatile security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'reset_stats_wrapper';
comment on function audit_algolia.reset_stats() is
    'Sets the totals of this database''s statistics to zero. Queued rows stay queued and counted.';

create function audit_algolia.pause(index_name text default null)
    returns void
    language c volatile security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'pause_wrapper';
comment on function audit_algolia.pause(text) is
    'Suspends delivery to an index, or (NULL) to all. Capture continues.';

create function audit_algolia.resume(index_name text default null)
    returns void
    language c volatile security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'resume_wrapper';
comment on function audit_algolia.resume(text) is
    'Resumes delivery to an index, or (NULL) to all, and ends a backoff at once.';

create function audit_algolia.flush(max_wait interval default '30 s')
    returns boolean
    language c volatile security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'flush_wrapper';
comment on function audit_algolia.flush(interval) is
    'Waits until everything queued before the call is delivered or a dead letter. Returns false if max_wait passes first.';

create function audit_algolia.redrive(index_name text default null, ids bigint[] default null)
    returns bigint
    language c volatile security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'redrive_wrapper';
comment on function audit_algolia.redrive(text, bigint[]) is
    'Puts dead letters back into the queue: those of one index or (NULL) of all, with the given ids or (NULL) all. Returns how many.';

create function audit_algolia.discard(index_name text default null, ids bigint[] default null)
    returns bigint
    language c volatile security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'discard_wrapper';
comment on function audit_algolia.discard(text, bigint[]) is
    'Deletes dead letters for good: those of one index or (NULL) of all, with the given ids or (NULL) all. Returns how many.';

create function audit_algolia.index_settings(index_name text)
    returns jsonb
    language c stable
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'index_settings_wrapper';
comment on function audit_algolia.index_settings(text) is
    'Shows the settings that configure_index() would send, derived from the rules of all tables that deliver to the index. Needs ownership of these tables.';

create function audit_algolia.page_config(indices text[] default null)
    returns jsonb
    language c stable
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'page_config_wrapper';
comment on function audit_algolia.page_config(text[]) is
    'Configuration of the audit page for these indices or (NULL) all whose tables the caller owns: their attributes, facets and time zone; no secrets.';

create function audit_algolia.configure_index(index_name text)
    returns void
    language c volatile
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'configure_index_wrapper';
comment on function audit_algolia.configure_index(text) is
    'Queues the settings that audit_algolia.index_settings() shows for delivery to the index. Needs ownership of all tables that deliver to it.';

-- These three run with other users' statements, most of which concern no watched table. So they have no clause that costs time
-- at the start, such as a change of user or settings. They make these changes once they have something to do.
create function audit_algolia.follow_partitions()
    returns event_trigger
    language c
    as 'MODULE_PATHNAME', 'follow_partitions_wrapper';
comment on function audit_algolia.follow_partitions() is
    'Event trigger function: creates row triggers on a watched table that has become a partition, or whose triggers are to fire for a subscription.';

create event trigger audit_algolia_follow_partitions
    on ddl_command_end
    when tag in ('ALTER TABLE', 'CREATE TABLE', 'ALTER FOREIGN TABLE', 'CREATE FOREIGN TABLE', 'CREATE SCHEMA')
    execute function audit_algolia.follow_partitions();
comment on event trigger audit_algolia_follow_partitions is
    'Keeps rows from bypassing the triggers of watched tables that become partitions or join an inheritance tree.';

create function audit_algolia.prepare_drop()
    returns event_trigger
    language c
    as 'MODULE_PATHNAME', 'prepare_drop_wrapper';
comment on function audit_algolia.prepare_drop() is
    'Event trigger function: queues the deletion of the rows of partitions that are about to be dropped from mirrored tables.';

create event trigger audit_algolia_prepare_drop
    on ddl_command_start
    when tag in ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED')
    execute function audit_algolia.prepare_drop();
comment on event trigger audit_algolia_prepare_drop is
    'Deletes the objects of dropped partitions from the indices of mirrored tables.';

create function audit_algolia.forget_dropped()
    returns event_trigger
    language c
    as 'MODULE_PATHNAME', 'forget_dropped_wrapper';
comment on function audit_algolia.forget_dropped() is
    'Event trigger function: removes the rules of dropped tables. Their queued rows are still delivered.';

create event trigger audit_algolia_forget_dropped
    on sql_drop
    execute function audit_algolia.forget_dropped();
comment on event trigger audit_algolia_forget_dropped is
    'Removes the rules of dropped tables.';
