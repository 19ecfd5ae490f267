-- How far a backfill has come: $1 the source, $2 the table or partition that is read. Locks its row until the step
-- ends. No row: somebody else has locked it, or there is nothing left to do.
select b.state, b.since, b.until, b.snapshot_boundary, b.pass, b.cursor, b.rows_total, b.rows_done, b.rows_queued,
    b.started_at, b.rate, b.rate_at
from audit_algolia.backfill as b
where b.source = $1
    and b.relation = $2
    and b.state in ('waiting', 'running', 'throttled')
for update skip locked
