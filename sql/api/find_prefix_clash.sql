-- Another table that delivers to an index with the same prefix: $1 the index, $2 the prefix, $3 the table to be
-- watched.
select s.relation::pg_catalog.regclass::text
from audit_algolia.source as s
join pg_catalog.pg_class as c on c.oid = s.relation
where s.index_id = $1 and s.object_prefix = $2 and s.relation <> $3
limit 1
