-- Forgets settings that have arrived: $1 the index, $2 their version. Newer ones stay.
delete from audit_algolia.configuration as c
where c.index_id = $1
    and c.version = $2
