-- Whether history of a source is still to be queued: $1 the source.
select exists (
    select
    from audit_algolia.backfill as b
    where b.source = $1 and b.state in ('waiting', 'running', 'throttled')
)
