-- The indices that watched tables deliver to, if the caller, $1, owns all of these tables.
select i.name
from audit_algolia.index as i
join audit_algolia.source as s on s.index_id = i.id
join pg_catalog.pg_class as c on c.oid = s.relation
group by i.id, i.name
having pg_catalog.bool_and(pg_catalog.pg_has_role($1, c.relowner, 'usage'))
order by i.id
