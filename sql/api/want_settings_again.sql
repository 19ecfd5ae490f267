-- Has an index given settings that were refused: $1 the index, $2 the settings, $3 their version. Newer ones that wait
-- already go first, and these are not wanted any more.
insert into audit_algolia.configuration (index_id, settings, version, wanted_at)
values ($1, $2, $3, pg_catalog.now())
on conflict (index_id) do nothing
