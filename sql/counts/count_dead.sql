-- Reads of each dead letter its index, to be counted for the counters in shared memory.
select d.index_id
from audit_algolia.dead_letter as d
