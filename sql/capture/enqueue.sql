-- Queues records through the executor, when somebody has put triggers, constraints or policies on the queue that
-- writing to the heap directly would pass by: $1 the index, $2 source, $3 ids, $4 time, $5 actions, $6 records,
-- $7 objects (NULL: the record stands by itself).
insert into audit_algolia.queue (index_id, source, id, enqueued_at, action, record, object)
select $1, $2, r.id, $4, r.action::pg_catalog."char", r.record, r.object
from rows from (
    pg_catalog.unnest($3), pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7)
) as r (id, action, record, object)
