-- The snapshot boundary of a source, and the transaction that wrote its rules: $1 the source.
select s.snapshot_boundary, s.xmin::text::bigint
from audit_algolia.source as s
where s.id = $1
