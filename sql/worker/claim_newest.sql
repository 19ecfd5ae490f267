-- Takes the newest rows of a span: $1 index, $2 to $3 ids, $4 at most so many. Locks them for the length of the
-- claiming transaction only; rows another session has locked are passed over.
-- Of rows that are versions of an object the newest is read later, once the object is claimed.
select q.id, q.action, q.record, q.object
from audit_algolia.queue as q
where q.index_id = $1
    and q.id >= $2
    and q.id <= $3
order by q.id desc
limit $4
for update skip locked
