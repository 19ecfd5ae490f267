-- Deletes delivered rows: $1 index, $2 their ids. By id, not by a range with gaps: a row that committed in
-- one after the claim has not been sent.
delete from audit_algolia.queue as q
where q.index_id = $1
    and q.id = any ($2)
