-- Stores settings that were rejected once more: $1 the index, $2 the settings, $3 their version. If newer settings
-- wait, those stay.
insert into audit_algolia.configuration (index_id, settings, version, wanted_at)
values ($1, $2, $3, pg_catalog.now())
on conflict (index_id) do nothing
