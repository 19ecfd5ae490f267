-- The attached partitions of a mirrored table whose backfill stopped before all rows were queued: $1 the source, $2
-- the table.
select b.relation::pg_catalog.oid
from audit_algolia.backfill as b
where b.source = $1
    and b.relation <> $2
    and b.state in ('failed', 'cancelled')
