-- Queues records of one index as they once were: $1 the index, $2 sources, $3 ids, $4 times, $5 actions, $6 records,
-- $7 objects.
insert into audit_algolia.queue (index_id, source, id, enqueued_at, action, record, object)
select $1, r.source, r.id, r.enqueued_at, r.action::pg_catalog."char", r.record, r.object
from rows from (
    pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6),
    pg_catalog.unnest($7)
) as r (source, id, enqueued_at, action, record, object)
