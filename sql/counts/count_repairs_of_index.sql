-- Counts the repairs of one index: $1 the index.
select pg_catalog.count(*)
from audit_algolia.repair as r
where r.index_id = $1
