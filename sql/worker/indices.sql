-- The indices of the database. The name comes a second time as it goes over the wire, in UTF-8.
select i.id, i.name, i.paused, pg_catalog.convert_to(i.name, 'UTF8')
from audit_algolia.index as i
