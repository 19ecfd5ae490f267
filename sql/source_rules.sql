-- The rules of one source: $1 its id.
select s.index_id, s.columns, s.pseudonymize, s.object_id, s.object_prefix, s.time_column
from audit_algolia.source as s
where s.id = $1
