-- The name of an index: $1 its id.
select i.name
from audit_algolia.index as i
where i.id = $1
