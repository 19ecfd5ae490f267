-- Deletes the dead letters that versions about to be settled supersede: $1 the index, $2 objects, $3 the ids delivered.
-- Those that somebody has locked, to redrive or discard them, are passed over; the second column tells whether there
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
