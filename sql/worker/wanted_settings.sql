-- The indices that are to be given settings, and which version of them.
select c.index_id, c.version
from audit_algolia.configuration as c
