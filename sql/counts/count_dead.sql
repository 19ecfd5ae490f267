-- The index of each dead letter. The counter process counts them.
select d.index_id
from audit_algolia.dead_letter as d
