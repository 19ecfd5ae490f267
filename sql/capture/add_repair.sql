-- Stores a repair of a change that could not be captured: $1 the watched table, $2 the index, $3 the operation, $4 the
-- key columns and $5 their texts, $6 the number of the change, $7 who made it, $8 when and $9 in which transaction
-- (all three NULL unless records tell of changes), $10 the error, $11 when its statement began.
insert into audit_algolia.repair (
    relation, index_id, operation, key_columns, key, number, changed_by, changed_at, transaction_id, error, enqueued_at,
    next_attempt_at
)
values ($1::pg_catalog.regclass, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, pg_catalog.clock_timestamp())
