-- Counts the dead letters of one index: $1 the index.
select pg_catalog.count(*)
from audit_algolia.dead_letter as d
where d.index_id = $1
