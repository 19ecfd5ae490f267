-- Notes what has become of a backfill without a row being read: $1 the source, $2 its state, $3 what is wrong, $4 what
-- is read.
update audit_algolia.backfill as b
set state = $2,
    last_error = $3,
    ended_at = case when $2 = 'failed' then pg_catalog.clock_timestamp() end
where b.source = $1
    and b.relation = $4
    and b.state in ('waiting', 'running', 'throttled')
    and (b.state, b.last_error) is distinct from ($2, $3)
