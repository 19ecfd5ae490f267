-- Whether settings still wait to be sent: $1 the index, $2 their version.
select exists (
    select from audit_algolia.configuration as c
    where c.index_id = $1 and c.version = $2
)
