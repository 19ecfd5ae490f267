-- Locks dead letters to be put back, the oldest first: $1 the name of an index (NULL: all), $2 ids (NULL: all), $3 the
-- most to take. Does not read their records, except for settings, which are short.
select d.index_id, d.id, d.object is not null, case when d.action = 's' then d.record end
from audit_algolia.dead_letter as d
join audit_algolia.index as i on i.id = d.index_id
where ($1 is null or i.name = $1)
    and ($2 is null or d.id = any ($2))
order by d.index_id, d.id
limit $3
for update of d
