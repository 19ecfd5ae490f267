-- Observations of a network scanner: which service answers at which address and port. Messages arrive late, twice and
-- out of order. For each (ip, port, service) the newest observation wins, in the table and in the index.
--
--     psql -f scan_ingest.sql
--
-- Run it in a database with the extension, after setting application_id and api_key_file: as a superuser, or as a role
-- that may create schemas and was granted watch and configure_index (docs/security.md).
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

-- The index mirrors the table. Only the newest of a row's waiting versions is sent, and an older version never
-- overwrites a newer one. The objectID is the key, for instance 192.0.2.1:443:https.
select audit_algolia.watch('observation', index_name => 'scan_observation',
    columns => '{ip, port, service, state, banner, seen_at}', mode => 'mirror',
    time_column => 'seen_at', facets => '{ip, port, service, state}');
select audit_algolia.configure_index('scan_observation');

-- Takes a batch of messages, one array per column, and returns how many rows it inserted or changed.
--
-- Within a batch, `distinct on` keeps the newest message of each key, because ON CONFLICT cannot change a row twice.
-- Against the table, the WHERE accepts only newer messages. It sees the row as it is after it has been locked, so the
-- newest message also wins between two concurrent batches, whichever commits first. A duplicate changes nothing. Since
-- messages are ordered by key, all batches lock rows in the same order, and none of them deadlocks.
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

-- The same message again, an older one about port 22, and two about port 443, the newer one first.
select ingest('{192.0.2.1, 192.0.2.1, 192.0.2.1, 192.0.2.1}', '{443, 22, 443, 443}', '{https, ssh, https, https}',
    '{open, closed, closed, filtered}', '{nginx, null, null, null}',
    '{2026-11-20 12:01+00, 2026-11-20 11:00+00, 2026-11-20 14:00+00, 2026-11-20 13:00+00}');
-- 1

select ip, port, service, state, seen_at from observation order by ip, port;
--      ip      | port | service | state  |        seen_at
--  192.0.2.1   |   22 | ssh     | open   | 2026-11-20 12:00:00+00
--  192.0.2.1   |  443 | https   | closed | 2026-11-20 14:00:00+00
--  2001:db8::1 |  443 | https   | open   | 2026-11-20 12:02:00+00

-- A question to the index: which hosts have a port open, and which one was seen last?
--     POST /1/indexes/scan_observation/query  {"filters": "port:443 AND state:open", "facets": ["ip"]}

-- Services that have not been seen for long are deleted from the table, and so from the index.
create function forget(before timestamptz) returns bigint
    language sql
begin atomic
    with gone as (delete from observation where seen_at < before returning 1)
    select count(*) from gone;
end;
