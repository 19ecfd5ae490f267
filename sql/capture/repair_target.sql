-- Where the rows of a trigger go, even if the rules no longer fit the table: $1 the source, $2 the table at hand, as
-- in source_rules.sql. Returns the index and its name, the watched table, the key columns, whether one of them is
-- pseudonymized, the mode, the operations, and whether any column is pseudonymized. While a dump is restored the index
-- may be missing; then its number is its name.
select
    s.index_id,
    coalesce(i.name, s.index_id::pg_catalog.text),
    s.relation::pg_catalog.oid,
    s.object_id,
    s.object_id && s.pseudonymize,
    s.mode,
    s.operations,
    s.pseudonymize <> '{}'
from audit_algolia.source as s
left join audit_algolia.index as i on i.id = s.index_id
where s.id = $1
    and (
        s.relation = $2
        or s.relation in (select p.relid from pg_catalog.pg_partition_ancestors($2) as p)
        or s.relation in (select h.inhparent from pg_catalog.pg_inherits as h where h.inhrelid = $2)
    )
