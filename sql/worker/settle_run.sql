-- Deletes delivered rows: $1 index, $2 to $3 ids. Every id of the range was delivered, so no other row can be in it.
delete from audit_algolia.queue as q
where q.index_id = $1
    and q.id >= $2
    and q.id <= $3
