-- Queues one record by the executor, see enqueue.sql: $1 the index, $2 source, $3 id, $4 time, $5 action, $6 record,
-- $7 object (NULL: not a version).
insert into audit_algolia.queue (index_id, source, id, enqueued_at, action, record, object)
values ($1, $2, $3, $4, $5, $6, $7)
