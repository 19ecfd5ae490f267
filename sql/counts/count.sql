-- Reads of each undelivered row its index, to be counted for the counters in shared memory.
select q.index_id
from audit_algolia.queue as q
