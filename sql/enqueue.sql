-- Queues records through the executor, when somebody has put triggers, constraints or policies on the queue that
-- writing to the heap directly would pass by: $1 the index, $2 source, $3 ids, $4 time, $5 records.
insert into audit_algolia.queue (index_id, source, id, enqueued_at, action, record)
select $1, $2, r.id, $4, 'a', r.record
from rows from (pg_catalog.unnest($3), pg_catalog.unnest($5)) as r (id, record)
