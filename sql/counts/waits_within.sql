-- Whether rows still wait within a span: $1 the index, $2 to $3 ids.
select exists (
    select
    from audit_algolia.queue as q
    where q.index_id = $1 and q.id >= $2 and q.id <= $3
)
