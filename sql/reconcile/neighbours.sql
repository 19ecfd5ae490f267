-- The other sources of an index: of each its prefix, and of how many parts its objectIDs consist: $1 the index, $2 the
-- source that is not meant.
select s.object_prefix, pg_catalog.cardinality(s.object_id)
from audit_algolia.source as s
where s.index_id = $1 and s.id <> $2
