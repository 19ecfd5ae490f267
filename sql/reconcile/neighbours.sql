-- The other sources of an index, each with its prefix and the number of parts of its objectIDs: $1 the index, $2 the
-- source to leave out.
select s.object_prefix, pg_catalog.cardinality(s.object_id)
from audit_algolia.source as s
where s.index_id = $1 and s.id <> $2
