-- The indices with settings to send, and the version of these.
select c.index_id, c.version
from audit_algolia.configuration as c
