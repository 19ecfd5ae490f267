-- Stores that a partition with rows was attached to the table of a source: $1 the source, $2 the partition, $3 its
-- state (waiting: its rows are read at once; attached: they are read with the table), $4 its snapshot boundary.
insert into audit_algolia.backfill as b
    (source, relation, state, snapshot_boundary, rows_done, rows_queued, requested_at, rate)
values ($1, $2, $3, $4, 0, 0, pg_catalog.clock_timestamp(), 0)
on conflict (source, relation) do update
set state = excluded.state,
    snapshot_boundary = excluded.snapshot_boundary,
    pass = null,
    cursor = null,
    rows_total = null,
    rows_done = 0,
    rows_queued = 0,
    requested_at = excluded.requested_at,
    started_at = null,
    ended_at = null,
    rate = 0,
    rate_at = null,
    last_error = null
