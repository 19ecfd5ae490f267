-- The highest id waiting in an index: $1 the index.
select pg_catalog.max(q.id)
from audit_algolia.queue as q
where q.index_id = $1
