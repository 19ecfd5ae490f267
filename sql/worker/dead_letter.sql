-- Moves rejected rows to the dead letters: $1 the index, $2 ids, $3 objectIDs, $4 attempts, $5 statuses (NULL: not
-- sent), $6 reasons.
with dead as (
    delete from audit_algolia.queue as q
    using rows from (
        pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6)
    ) as v (id, object_id, attempts, http_status, error)
    where q.index_id = $1
        and q.id = v.id
    returning
        q.index_id, q.source, q.id, q.enqueued_at, q.action, q.record, v.object_id, v.attempts, v.http_status, v.error,
        q.object
)
insert into audit_algolia.dead_letter
    (index_id, source, id, enqueued_at, action, record, object_id, attempts, http_status, error, object)
select * from dead
