-- The records of a source that wait, or are dead, and stand by themselves: $1 the index, $2 the source.
select q.record
from audit_algolia.queue as q
where q.index_id = $1 and q.source = $2 and q.object is null
union all
select d.record
from audit_algolia.dead_letter as d
where d.index_id = $1 and d.source = $2 and d.object is null
