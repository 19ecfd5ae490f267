-- The settings to send to an index: $1 the index.
select c.version, c.settings
from audit_algolia.configuration as c
where c.index_id = $1
