-- When the waiting row with the highest id of a span was queued: $1 the index, $2 to $3 ids.
select q.enqueued_at
from audit_algolia.queue as q
where q.index_id = $1 and q.id >= $2 and q.id <= $3
order by q.id desc
limit 1
