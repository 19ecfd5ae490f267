-- Stores how far a backfill has come, in the transaction that queues the rows: $1 the source, $2 its state, $3
-- snapshot boundary, $4 pass, $5 cursor, $6 rows to read, $7 rows done, $8 rows queued, $9 the rate, $10 now, $11 when
-- it began, $12 the table or partition that is read.
update audit_algolia.backfill as b
set state = $2,
    snapshot_boundary = $3,
    pass = $4,
    cursor = $5,
    rows_total = $6,
    rows_done = $7,
    rows_queued = $8,
    rate = $9,
    rate_at = $10,
    started_at = $11,
    ended_at = case when $2 = 'finished' then $10 end,
    last_error = null
where b.source = $1
    and b.relation = $12
