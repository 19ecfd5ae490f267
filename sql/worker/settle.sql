-- Deletes delivered rows: $1 index, $2 their ids. Deletes by id and not by range, because a row that has committed
-- since the claim, with an id in a gap, was not sent.
delete from audit_algolia.queue as q
where q.index_id = $1
    and q.id = any ($2)
