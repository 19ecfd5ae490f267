-- The settings an index is to be given: $1 the index.
select c.version, c.settings
from audit_algolia.configuration as c
where c.index_id = $1
