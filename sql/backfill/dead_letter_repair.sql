-- Makes a dead letter of a change that cannot be repaired: $1 the index, $2 the source, $3 its number, $4 when it was
-- stored, $5 the record, $6 its objectID, $7 the number of attempts, $8 the reason.
insert into audit_algolia.dead_letter
    (index_id, source, id, enqueued_at, action, record, object_id, attempts, error)
values ($1, $2, $3, $4, 'a', $5, $6, $7, $8)
