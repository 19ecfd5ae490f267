-- Reads of each repair that waits its index, to be counted for the counters in shared memory.
select r.index_id
from audit_algolia.repair as r
