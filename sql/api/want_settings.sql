-- Stores settings for an index: $1 the index, $2 the settings, $3 their version, higher than any before. They replace
-- settings that are not sent yet.
insert into audit_algolia.configuration as c (index_id, settings, version, wanted_at)
values ($1, $2, $3, pg_catalog.now())
on conflict (index_id) do update
set settings = excluded.settings,
    version = excluded.version,
    wanted_at = excluded.wanted_at
