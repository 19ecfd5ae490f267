-- The rules of one source: $1 its id, $2 the table at hand, which must be the watched one or a partition of it.
select s.index_id, s.columns, s.pseudonymize, s.object_id, s.object_prefix, s.time_column
from audit_algolia.source as s
where s.id = $1
    and (
        s.relation = $2
        or s.relation in (select p.relid from pg_catalog.pg_partition_ancestors($2) as p)
    )
