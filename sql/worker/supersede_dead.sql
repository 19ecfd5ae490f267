-- Deletes dead letters that are older than the delivered versions of their objects: $1 the index, $2 objects, $3 the
-- delivered ids. Skips those that somebody has locked to redrive or discard them; the second column says whether there
-- were any.
with doomed as (
    select d.index_id, d.id
    from audit_algolia.dead_letter as d
    join rows from (pg_catalog.unnest($2), pg_catalog.unnest($3)) as v (object, id)
        on d.object = v.object
        and d.id < v.id
    where d.index_id = $1
),
free as (
    select d.index_id, d.id
    from audit_algolia.dead_letter as d
    where (d.index_id, d.id) in (select m.index_id, m.id from doomed as m)
    for update skip locked
),
gone as (
    delete from audit_algolia.dead_letter as d
    using free as f
    where d.index_id = f.index_id
        and d.id = f.id
    returning d.id
)
select
    (select pg_catalog.count(*) from gone),
    (select pg_catalog.count(*) from gone) < (select pg_catalog.count(*) from doomed)
