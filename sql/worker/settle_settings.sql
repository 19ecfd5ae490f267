-- Forgets settings that have arrived: $1 the index, $2 their version. Newer ones stay; those that somebody is about to
-- replace are not waited for.
with free as (
    select c.index_id
    from audit_algolia.configuration as c
    where c.index_id = $1
        and c.version = $2
    for update skip locked
)
delete from audit_algolia.configuration as c
using free as f
where c.index_id = f.index_id
