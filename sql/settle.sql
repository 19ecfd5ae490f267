-- Deletes delivered rows: $1 index, $2 their ids. By id, never by range: a row that committed inside the range
-- after the claim has not been sent.
delete from audit_algolia.queue as q
where q.index_id = $1
    and q.id = any ($2)
