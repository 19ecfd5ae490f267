-- Counts the dead letters of each index under one snapshot, for the counters in shared memory.
select d.index_id, pg_catalog.count(*)
from audit_algolia.dead_letter as d
group by d.index_id
