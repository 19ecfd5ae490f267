-- Stops the backfill of a source: $1 the source.
update audit_algolia.backfill as b
set state = 'cancelled', ended_at = pg_catalog.clock_timestamp()
where b.source = $1
    and b.state in ('waiting', 'running', 'throttled')
