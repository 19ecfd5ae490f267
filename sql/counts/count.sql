-- The index of each queued row. The counter process counts them.
select q.index_id
from audit_algolia.queue as q
