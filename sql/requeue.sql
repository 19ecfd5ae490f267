-- Queues records of one index as they once were: $1 the index, $2 sources, $3 ids, $4 times, $5 actions, $6 records.
insert into audit_algolia.queue (index_id, source, id, enqueued_at, action, record)
select $1, r.source, r.id, r.enqueued_at, r.action::pg_catalog."char", r.record
from rows from (
    pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6)
) as r (source, id, enqueued_at, action, record)
