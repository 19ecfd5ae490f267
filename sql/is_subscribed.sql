-- Whether a subscription fills a table, one of its partitions, or what it is a partition of: $1 the table.
select exists (
    select
    from pg_catalog.pg_subscription_rel as s
    where s.srrelid = $1
        or s.srrelid in (select t.relid from pg_catalog.pg_partition_tree($1) as t)
        or s.srrelid in (select a.relid from pg_catalog.pg_partition_ancestors($1) as a)
)
