-- Deletes delivered rows: $1 index, $2 to $3 ids, every single one of which has been delivered. Nothing can have been
-- committed between them since.
delete from audit_algolia.queue as q
where q.index_id = $1
    and q.id >= $2
    and q.id <= $3
