-- Stores the state of a backfill when no row was read: $1 the source, $2 its state, $3 the problem, $4 the table or
-- partition that is read.
update audit_algolia.backfill as b
set state = $2,
    last_error = $3,
    ended_at = case when $2 = 'failed' then pg_catalog.clock_timestamp() end
where b.source = $1
    and b.relation = $4
    and b.state in ('waiting', 'running', 'throttled')
    and (b.state, b.last_error) is distinct from ($2, $3)
