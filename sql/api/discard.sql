-- Deletes dead letters and counts them by index: $1 the name of an index (NULL: all), $2 ids (NULL: all).
with gone as (
    delete from audit_algolia.dead_letter as d
    using audit_algolia.index as i
    where i.id = d.index_id
        and ($1 is null or i.name = $1)
        and ($2 is null or d.id = any ($2))
    returning d.index_id
)
select g.index_id, pg_catalog.count(*)
from gone as g
group by g.index_id
