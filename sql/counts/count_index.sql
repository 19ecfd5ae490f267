-- Counts the waiting rows of one index: $1 the index.
select pg_catalog.count(*)
from audit_algolia.queue as q
where q.index_id = $1
