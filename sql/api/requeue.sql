-- Moves dead letters of one index back into the queue: $1 the index, $2 their ids, $3 their new ids. The server copies
-- the records one at a time.
with gone as (
    delete from audit_algolia.dead_letter as d
    using rows from (pg_catalog.unnest($2), pg_catalog.unnest($3)) as n (id, new_id)
    where d.index_id = $1
        and d.id = n.id
    returning d.source, n.new_id, d.enqueued_at, d.action, d.record, d.object
)
insert into audit_algolia.queue (index_id, source, id, enqueued_at, action, record, object)
select $1, g.source, g.new_id, g.enqueued_at, g.action, g.record, g.object
from gone as g
