-- The indices of the database. The name is returned a second time in UTF-8, as it is sent.
select i.id, i.name, i.paused, pg_catalog.convert_to(i.name, 'UTF8')
from audit_algolia.index as i
