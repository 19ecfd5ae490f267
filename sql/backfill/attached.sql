-- The partitions that were attached to the table of a source, each with its snapshot boundary: $1 the source.
select b.relation::pg_catalog.oid, b.snapshot_boundary
from audit_algolia.backfill as b
where b.source = $1
    and b.state = 'attached'
