-- Which rows were there when a table came under watch, and which transaction has written its rules: $1 the source.
select s.snapshot_boundary, s.xmin::text::bigint
from audit_algolia.source as s
where s.id = $1
