-- Which of some objects have a version in the queue or among the dead letters: $1 the index, $2 the objects.
select q.object
from audit_algolia.queue as q
where q.index_id = $1 and q.object = any ($2)
union
select d.object
from audit_algolia.dead_letter as d
where d.index_id = $1 and d.object = any ($2)
