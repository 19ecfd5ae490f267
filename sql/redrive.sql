-- Takes dead letters out, the oldest first: $1 name of the index or NULL for all, $2 ids or NULL for all, $3 at most so
-- many.
with taken as (
    select d.index_id, d.id
    from audit_algolia.dead_letter as d
    join audit_algolia.index as i on i.id = d.index_id
    where ($1 is null or i.name = $1)
        and ($2 is null or d.id = any ($2))
    order by d.index_id, d.id
    limit $3
    for update of d
),
gone as (
    delete from audit_algolia.dead_letter as d
    using taken as t
    where d.index_id = t.index_id
        and d.id = t.id
    returning d.index_id, d.source, d.id, d.enqueued_at, d.action, d.record, d.object
)
select g.index_id, g.source, g.enqueued_at, g.action::pg_catalog.text, g.record, g.object, g.id
from gone as g
order by g.index_id, g.id
