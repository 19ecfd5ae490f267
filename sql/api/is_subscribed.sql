-- Whether a subscription fills one of these tables, or a partitioned table above one: $1 the tables.
select exists (
    select
    from pg_catalog.pg_subscription_rel as s
    where s.srrelid = any ($1)
        or s.srrelid in (
            select a.relid
            from pg_catalog.unnest($1) as t (oid)
            cross join lateral pg_catalog.pg_partition_ancestors(t.oid) as a
        )
)
