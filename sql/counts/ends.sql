-- The lowest and the highest id that waits in an index: $1 the index, $2 the lowest id a row can have.
select pg_catalog.min(q.id), pg_catalog.max(q.id)
from audit_algolia.queue as q
where q.index_id = $1 and q.id >= $2
