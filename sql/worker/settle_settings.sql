-- Deletes settings that Algolia has accepted: $1 the index, $2 their version. Newer settings stay. Skips a row that
-- somebody has locked.
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
