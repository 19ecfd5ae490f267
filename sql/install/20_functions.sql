-- The SQL interface. What reads or writes the extension's tables runs with the owner's rights and a pinned
-- search_path. Functions that act on a user's table are called with the caller's rights, which decide what they may do;
-- they take the owner's rights themselves. As security definers they would see the session's user only, which is
-- somebody else in an index expression under ANALYZE or in a security definer of the caller's own.

create function audit_algolia.capture() returns trigger
    language c
    as 'MODULE_PATHNAME', 'audit_algolia_capture';
comment on function audit_algolia.capture() is
    'Trigger function of watched tables: copies the allowed columns of changed rows into the queue. Put in place by audit_algolia.watch().';

-- Its search_path is the caller's, under which the names in a filter are meant; it pins its own before it does anything.
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
    object_prefix text default '')
    returns integer
    language c volatile
    as 'MODULE_PATHNAME', 'watch_wrapper';
comment on function audit_algolia.watch(regclass, text, text[], text[], text[], text, text[], text, text, text[], boolean, text) is
    'Puts a table under watch: from now on its committed changes are delivered to an Algolia index. Returns the source''s id. Needs ownership of the table.';

-- Its search_path is the caller's, under which their triggers are dropped, for event triggers of theirs.
create function audit_algolia.unwatch(source regclass, index_name text default null)
    returns void
    language c volatile
    as 'MODULE_PATHNAME', 'unwatch_wrapper';
comment on function audit_algolia.unwatch(regclass, text) is
    'Ends the watch over a table, for one index or (NULL) for all. Rows already queued are still delivered.';

-- Nobody sees a row here that they may not read.
create function audit_algolia.preview(source regclass, max_rows integer default 10)
    returns setof jsonb
    language c stable
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'preview_wrapper';
comment on function audit_algolia.preview(regclass, integer) is
    'The records that rows of a watched table would leave the database as, newest rows first. Needs ownership of the table.';

-- Reads the table with the caller's rights; rows hidden from the caller would look as if they were gone, and are an error.
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
    'Compares a watched table with its index at Algolia and counts records that are missing, differ, or (mirror mode) have no row; repair => true queues what mends them. Needs ownership of the table.';

-- Counts with the caller's rights, row-level security included.
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
    'Events and distinct actors of a watched table, by action, in the window of time (at - span, at]; the row without an action is the total. Needs SELECT on the table.';

create function audit_algolia.pseudonym(value text)
    returns text
    language c stable strict security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'pseudonym_wrapper';
comment on function audit_algolia.pseudonym(text) is
    'The pseudonym of a value under the current key. To resolve pseudonyms, compute it over your own users table.';

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
    'Has the rows a watched table holds already delivered, newest first and behind all live rows; goes on where one with the same bounds has stopped. Needs ownership of the table.';

create function audit_algolia.cancel_backfill(source regclass)
    returns void
    language c volatile
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'cancel_backfill_wrapper';
comment on function audit_algolia.cancel_backfill(regclass) is
    'Stops the backfill of a watched table. What it has queued is still delivered. Needs ownership of the table.';

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
    'An Algolia key that can search what the parent key can, restricted to records that meet the filters, to a time and to some indices. Made here, without asking Algolia.';

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
    'One row per index: what waits, what is on its way, what arrived, and what is wrong if anything is.';

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
    'One row per delivery worker of this database and the latest batch it took.';

create function audit_algolia.metrics()
    returns text
    language c volatile security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'metrics_wrapper';
comment on function audit_algolia.metrics() is
    'The numbers of queue_stats() and worker_stats() as OpenMetrics text, for a scraper.';

create function audit_algolia.reset_stats()
    returns void
    language c volatile security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'reset_stats_wrapper';
comment on function audit_algolia.reset_stats() is
    'Sets the totals of this database''s statistics to zero. What is queued stays queued, and counted.';

create function audit_algolia.pause(index_name text default null)
    returns void
    language c volatile security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'pause_wrapper';
comment on function audit_algolia.pause(text) is
    'Suspends delivery to an index, or (NULL) to all. Capture goes on.';

create function audit_algolia.resume(index_name text default null)
    returns void
    language c volatile security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'resume_wrapper';
comment on function audit_algolia.resume(text) is
    'Takes delivery to an index, or (NULL) to all, up again, and ends a backoff at once.';

create function audit_algolia.flush(max_wait interval default '30 s')
    returns boolean
    language c volatile security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'flush_wrapper';
comment on function audit_algolia.flush(interval) is
    'Waits until all that was queued before the call is delivered or dead; false when max_wait passes first.';

create function audit_algolia.redrive(index_name text default null, ids bigint[] default null)
    returns bigint
    language c volatile security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'redrive_wrapper';
comment on function audit_algolia.redrive(text, bigint[]) is
    'Puts dead letters back into the queue: those of an index or (NULL) of all, those with the ids given or (NULL) all. Returns how many.';

create function audit_algolia.discard(index_name text default null, ids bigint[] default null)
    returns bigint
    language c volatile security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'discard_wrapper';
comment on function audit_algolia.discard(text, bigint[]) is
    'Deletes dead letters for good: those of an index or (NULL) of all, those with the ids given or (NULL) all. Returns how many.';

create function audit_algolia.index_settings(index_name text)
    returns jsonb
    language c stable
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'index_settings_wrapper';
comment on function audit_algolia.index_settings(text) is
    'The settings an index needs so that its records can be filtered, counted and ranked by time, by the rules of all tables that deliver to it. Needs ownership of those.';

create function audit_algolia.configure_index(index_name text)
    returns void
    language c volatile
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'configure_index_wrapper';
comment on function audit_algolia.configure_index(text) is
    'Has a worker give an index the settings that audit_algolia.index_settings() shows. Needs ownership of all tables that deliver to it.';

-- These three are called at other people's statements, most of which concern no watched table. So they begin with nothing
-- that costs, such as a change of user and settings, which they make themselves once they have something to do.
create function audit_algolia.follow_partitions()
    returns event_trigger
    language c
    as 'MODULE_PATHNAME', 'follow_partitions_wrapper';
comment on function audit_algolia.follow_partitions() is
    'Event trigger function: gives a watched table that has become a partition, or whose triggers are to fire for a subscription, triggers that see each row.';

create event trigger audit_algolia_follow_partitions
    on ddl_command_end
    when tag in ('ALTER TABLE', 'CREATE TABLE', 'ALTER FOREIGN TABLE', 'CREATE FOREIGN TABLE', 'CREATE SCHEMA')
    execute function audit_algolia.follow_partitions();
comment on event trigger audit_algolia_follow_partitions is
    'Keeps rows from passing by the triggers of watched tables that become partitions or members of an inheritance tree.';

create function audit_algolia.tell_departures()
    returns event_trigger
    language c
    as 'MODULE_PATHNAME', 'tell_departures_wrapper';
comment on function audit_algolia.tell_departures() is
    'Event trigger function: queues the deletion of the rows of partitions that are about to be dropped from mirrored tables.';

create event trigger audit_algolia_tell_departures
    on ddl_command_start
    when tag in ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED')
    execute function audit_algolia.tell_departures();
comment on event trigger audit_algolia_tell_departures is
    'Has the rows of partitions that are dropped leave the indices of mirrored tables.';

create function audit_algolia.forget_dropped()
    returns event_trigger
    language c
    as 'MODULE_PATHNAME', 'forget_dropped_wrapper';
comment on function audit_algolia.forget_dropped() is
    'Event trigger function: forgets the rules of watched tables that have been dropped. Their queued rows are still delivered.';

create event trigger audit_algolia_forget_dropped
    on sql_drop
    execute function audit_algolia.forget_dropped();
comment on event trigger audit_algolia_forget_dropped is
    'Forgets the rules of watched tables that have been dropped.';
