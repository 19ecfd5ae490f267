-- The index of each repair. The counter process counts them.
select r.index_id
from audit_algolia.repair as r
