-- Clicks and impressions in a table partitioned by time. audit_algolia.activity() counts them in the database, and
-- anybody with a search key counts them in the index.
--
--     psql -f user_analytics.sql
--
-- Run it in a database with the extension, after setting application_id, api_key_file and pseudonym_key_file: as a
-- superuser, or as a role that may create schemas and was granted watch, configure_index, activity and, for partitions,
-- capture (docs/security.md). Everything is in a schema of its own: DROP SCHEMA user_analytics CASCADE removes it.

\set ON_ERROR_STOP on
create schema user_analytics;
set search_path = user_analytics;
set timezone = 'UTC';

create table users (
    user_id text primary key,
    first_seen timestamptz not null);

-- The partition key, the time, must be part of the primary key. The index by time serves the window of activity().
create sequence event_number;
create table event (
    event_id bigint not null default nextval('event_number'),
    user_id text not null references users,
    event text not null check (event in ('click', 'impression')),
    at timestamptz not null,
    primary key (event_id, at)
) partition by range (at);
create index on event (at);

-- A partition for each day, and a default partition for all other times.
create table event_elsewhere partition of event default;
create function add_day(day date) returns void
    language plpgsql
    set search_path from current
as $$
begin
    execute format('create table if not exists %I partition of event for values from (%L) to (%L)',
        'event_' || to_char(day, 'YYYY_MM_DD'), day::text || ' 00:00+00', (day + 1)::text || ' 00:00+00');
end $$;
select add_day(current_date + n) from generate_series(-1, 1) as n;

-- One source for the table and all its partitions, including later ones. The id alone makes the objectID.
select audit_algolia.watch('event', index_name => 'analytics_event',
    columns => '{user_id, event, at}', pseudonymize => '{user_id}', object_id => '{event_id}',
    time_column => 'at', facets => '{event, user_id}');
select audit_algolia.configure_index('analytics_event');
select add_day(current_date + 2);

-- Stores an event, and the user if this is their first event. Two sessions may store the same new user at once: the
-- second waits for the first, and then finds the user.
create function record_event(who text, what text, at timestamptz default now()) returns void
    language sql
begin atomic
    insert into users (user_id, first_seen) values (who, record_event.at) on conflict do nothing;
    insert into event (user_id, event, at) values (who, what, record_event.at);
end;

-- The hour before `until`, in one row.
create function last_hour(until timestamptz default now())
    returns table (unique_users bigint, clicks bigint, impressions bigint)
    language sql stable
begin atomic
    select
        coalesce(max(unique_actors) filter (where action is null), 0),
        coalesce(max(a.events) filter (where action = 'click'), 0),
        coalesce(max(a.events) filter (where action = 'impression'), 0)
    from audit_algolia.activity('event', until, '1 hour', actor_column => 'user_id', action_column => 'event') as a;
end;

-- Two users, one click and one impression; an older event does not count.
select record_event('ann', 'impression', now() - interval '3 hours');
select record_event('ann', 'impression', now() - interval '20 minutes');
select record_event('ben', 'click', now() - interval '10 minutes');

select * from audit_algolia.activity('event', now());
--    action   | events | unique_actors
--  click      |      1 |             1
--  impression |      1 |             1
--             |      2 |             2
select * from last_hour();
--  unique_users | clicks | impressions
--             2 |      1 |           1

-- The same question to the index: POST /1/indexes/analytics_event/query with
--     {"filters": "at > <now − 3600> AND at <= <now>", "facets": ["event", "user_id"], "hitsPerPage": 0}
-- returns clicks and impressions under facets.event, and one entry per user under facets.user_id, up to 1,000. For more
-- users, count in the database.
