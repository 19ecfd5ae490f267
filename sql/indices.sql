-- What a worker knows of the indices it delivers to.
select i.id, i.name, i.paused
from audit_algolia.index as i
