-- Counts the undelivered rows of each index under one snapshot, for the counters in shared memory.
select q.index_id, pg_catalog.count(*)
from audit_algolia.queue as q
group by q.index_id
