-- Queues records by the executor. Used when somebody has added triggers, constraints or policies to the queue, which a
-- direct write to the heap would bypass: $1 the index, $2 source, $3 ids, $4 time, $5 actions, $6 records, $7 objects
-- (NULL: not a version).
insert into audit_algolia.queue (index_id, source, id, enqueued_at, action, record, object)
select $1, $2, r.id, $4, r.action::pg_catalog."char", r.record, r.object
from rows from (
    pg_catalog.unnest($3), pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7)
) as r (id, action, record, object)
