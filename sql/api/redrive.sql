-- Locks dead letters that are put back, the oldest first: $1 name of the index or NULL for all, $2 ids or NULL for all, $3
-- at most so many. Their records stay where they are, but for settings, which are short.
select d.index_id, d.id, d.object is not null, case when d.action = 's' then d.record end
from audit_algolia.dead_letter as d
join audit_algolia.index as i on i.id = d.index_id
where ($1 is null or i.name = $1)
    and ($2 is null or d.id = any ($2))
order by d.index_id, d.id
limit $3
for update of d
