-- Starts or continues a backfill: $1 the source, $2 since, $3 until, $4 rows per second, $5 snapshot boundary, $6
-- whether the table is mirrored, $7 the table or partition to read. An unfinished backfill with the same bounds
-- continues where it stopped, unless changes of a mirrored table have gone unreported since. No row: a backfill with
-- other bounds is running.
insert into audit_algolia.backfill as b
    (source, relation, state, since, until, rows_per_second, snapshot_boundary, rows_done, rows_queued, requested_at, rate)
values ($1, $7, 'waiting', $2, $3, $4, $5, 0, 0, pg_catalog.clock_timestamp(), 0)
on conflict (source, relation) do update
set (state, since, until, rows_per_second, snapshot_boundary, pass, cursor, rows_total, rows_done, rows_queued, requested_at,
    started_at, ended_at, rate, rate_at, last_error) = (
        select
            case when b.state in ('running', 'throttled') then b.state else 'waiting' end,
            $2,
            $3,
            $4,
            case when g.goes_on then b.snapshot_boundary else excluded.snapshot_boundary end,
            case when g.goes_on then b.pass end,
            case when g.goes_on then b.cursor end,
            case when g.goes_on then b.rows_total end,
            case when g.goes_on then b.rows_done else 0 end,
            case when g.goes_on then b.rows_queued else 0 end,
            pg_catalog.clock_timestamp(),
            case when g.goes_on then b.started_at end,
            null::timestamptz,
            case when g.goes_on then b.rate else 0 end,
            case when g.goes_on then b.rate_at end,
            null::text
        from (select b.state <> 'finished' and (b.since, b.until) is not distinct from (excluded.since, excluded.until) and not ($6 and b.state = 'cancelled')) as g (goes_on)
    )
where b.state not in ('waiting', 'running', 'throttled')
    or (b.since, b.until) is not distinct from (excluded.since, excluded.until)
returning b.source
