-- Writes a repair down: $1 the watched table, $2 the index, $3 what was done to the row, $4 the key columns, $5 their
-- texts or NULL, $6 the record that deletes the object, or NULL, $7 the change's number, $8 the seam, $9 why it could not
-- be captured, $10 when.
insert into audit_algolia.repair
    (relation, index_id, operation, key_columns, key, object, number, seam, error, enqueued_at, next_attempt_at)
values ($1::pg_catalog.regclass, $2, $3, $4, $5, $6, $7, $8, $9, $10, pg_catalog.clock_timestamp())
