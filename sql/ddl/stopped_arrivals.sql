-- The partitions that have been attached to a mirrored table, and whose rows are not being read any more, though they have
-- not all been queued: $1 the source, $2 the table.
select b.relation::pg_catalog.oid
from audit_algolia.backfill as b
where b.source = $1
    and b.relation <> $2
    and b.state in ('failed', 'cancelled')
