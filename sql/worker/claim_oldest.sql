-- Takes the oldest rows of a span: $1 index, $2 to $3 ids, $4 the most to take. Locks them until the claiming
-- transaction ends, and skips rows that others have locked. If a row is a version of an object, its newest version is
-- read later, after the object has been claimed.
select q.id, q.action, q.record, q.object
from audit_algolia.queue as q
where q.index_id = $1
    and q.id >= $2
    and q.id <= $3
order by q.id
limit $4
for update skip locked
