-- Observations of a network scanner: which service answers at which address and port. Messages arrive late, twice and
-- out of order; of each (ip, port, service) the newest observation wins, in the table and in the index.
--
--     psql -f scan_ingest.sql
--
-- For a superuser, or an owner of tables who was given watch and configure_index (docs/security.md) and may create
-- schemas, in a database with the extension, once application_id and api_key_file are set.
-- Everything is in a schema of its own: DROP SCHEMA scan_ingest CASCADE removes it.

\set ON_ERROR_STOP on
create schema scan_ingest;
set search_path = scan_ingest;

create table observation (
    ip inet,
    port integer check (port between 0 and 65535),
    service text,
    state text not null check (state in ('open', 'closed', 'filtered')),
    banner text,
    seen_at timestamptz not null,
    primary key (ip, port, service));

-- The index holds the rows of the table, each as it is now: many versions of a row that wait go out as one, and an
-- older one never overwrites a newer one. The objectID is the key, as 192.0.2.1:443:https.
select audit_algolia.watch('observation', index_name => 'scan_observation',
    columns => '{ip, port, service, state, banner, seen_at}', mode => 'mirror',
    time_column => 'seen_at', facets => '{ip, port, service, state}');
select audit_algolia.configure_index('scan_observation');

-- Takes a batch of messages, an array for each column, and returns how many told something new.
--
-- Within a batch, `distinct on` leaves the newest message of each key, for ON CONFLICT cannot change a row twice.
-- Against the table, the WHERE lets newer ones in alone: it looks at the row as it is once it is locked, so that of two
-- batches that meet the newest message wins as well, whichever commits first. A duplicate changes nothing. The order
-- by key has all batches lock rows in one order, so that none waits for another in a circle.
create function ingest(ips inet[], ports integer[], services text[], states text[], banners text[], times timestamptz[])
    returns bigint
    language sql
begin atomic
    with written as (
        insert into observation as kept (ip, port, service, state, banner, seen_at)
        select distinct on (ip, port, service) ip, port, service, state, banner, seen_at
        from unnest(ips, ports, services, states, banners, times)
            as message (ip, port, service, state, banner, seen_at)
        order by ip, port, service, seen_at desc
        on conflict (ip, port, service) do update
        set state = excluded.state, banner = excluded.banner, seen_at = excluded.seen_at
        where excluded.seen_at > kept.seen_at
        returning 1)
    select count(*) from written;
end;

-- Two ports of one host, and one of another.
select ingest('{192.0.2.1, 192.0.2.1, 2001:db8::1}', '{22, 443, 443}', '{ssh, https, https}', '{open, open, open}',
    '{SSH-2.0, nginx, nginx}', '{2026-11-20 12:00+00, 2026-11-20 12:01+00, 2026-11-20 12:02+00}');
-- 3

-- The same message again, an older one of port 22, and port 443 twice, the newer one first.
select ingest('{192.0.2.1, 192.0.2.1, 192.0.2.1, 192.0.2.1}', '{443, 22, 443, 443}', '{https, ssh, https, https}',
    '{open, closed, closed, filtered}', '{nginx, null, null, null}',
    '{2026-11-20 12:01+00, 2026-11-20 11:00+00, 2026-11-20 14:00+00, 2026-11-20 13:00+00}');
-- 1

select ip, port, service, state, seen_at from observation order by ip, port;
--      ip      | port | service | state  |        seen_at
--  192.0.2.1   |   22 | ssh     | open   | 2026-11-20 12:00:00+00
--  192.0.2.1   |  443 | https   | closed | 2026-11-20 14:00:00+00
--  2001:db8::1 |  443 | https   | open   | 2026-11-20 12:02:00+00

-- Of the index: which hosts have a port open, and which one was seen last?
--     POST /1/indexes/scan_observation/query  {"filters": "port:443 AND state:open", "facets": ["ip"]}

-- What has not been seen for long leaves the table, and by that the index.
create function forget(before timestamptz) returns bigint
    language sql
begin atomic
    with gone as (delete from observation where seen_at < before returning 1)
    select count(*) from gone;
end;
