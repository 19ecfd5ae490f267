-- When the newest waiting row was queued: $1 the index, $2 the highest id a row can have.
select q.enqueued_at
from audit_algolia.queue as q
where q.index_id = $1 and q.id <= $2
order by q.id desc
limit 1
