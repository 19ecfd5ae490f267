-- The rules of one source: $1 its id, $2 the table at hand. That must be the watched table, a partition of it, or a
-- chunk of a hypertable, to which TimescaleDB copies row-level triggers.
select
    s.index_id,
    s.columns,
    s.pseudonymize,
    s.object_id,
    s.object_prefix,
    s.time_column,
    s.filter,
    s.operations,
    s.relation::pg_catalog.oid,
    c.relowner,
    s.mode,
    s.mode = 'mirror' and exists (
        select
        from audit_algolia.backfill as b
        where b.source = s.id and b.state in ('waiting', 'running', 'throttled', 'failed')
    ),
    a.alert,
    case when a.alert is not null then (select i.name from audit_algolia.index as i where i.id = s.index_id) end
from audit_algolia.source as s
join pg_catalog.pg_class as c on c.oid = s.relation
-- The table has no such column before the extension is updated from 0.1.0.
cross join lateral (select pg_catalog.to_jsonb(s) ->> 'alert') as a (alert)
where s.id = $1
    and (
        s.relation = $2
        or s.relation in (select p.relid from pg_catalog.pg_partition_ancestors($2) as p)
        or s.relation in (select i.inhparent from pg_catalog.pg_inherits as i where i.inhrelid = $2)
    )
