-- The sources of a table: $1 the table, $2 the name of an index (NULL: all).
select s.id, s.operations
from audit_algolia.source as s
join audit_algolia.index as i on i.id = s.index_id
where s.relation = $1 and ($2 is null or i.name = $2)
order by s.id
