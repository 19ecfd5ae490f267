-- How far a backfill has come: $1 the source, $2 what is read. Locks its row until the step is over; nothing when somebody else has it
-- locked, or there is nothing to do any more.
select b.state, b.since, b.until, b.snapshot_boundary, b.pass, b.cursor, b.rows_total, b.rows_done, b.rows_queued,
    b.started_at, b.rate, b.rate_at
from audit_algolia.backfill as b
where b.source = $1
    and b.relation = $2
    and b.state in ('waiting', 'running', 'throttled')
for update skip locked
