-- Whether rows up to an id still wait: $1 the index, $2 the lowest id a row can have, $3 the id.
select exists (
    select
    from audit_algolia.queue as q
    where q.index_id = $1 and q.id >= $2 and q.id <= $3
)
