-- The records of a source that are in the queue or among the dead letters and are not versions: $1 the index, $2 the
-- source.
select q.record
from audit_algolia.queue as q
where q.index_id = $1 and q.source = $2 and q.object is null
union all
select d.record
from audit_algolia.dead_letter as d
where d.index_id = $1 and d.source = $2 and d.object is null
