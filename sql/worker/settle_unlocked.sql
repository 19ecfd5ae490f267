-- Deletes those of the delivered rows that nobody has locked: $1 index, $2 their ids. Returns their ids.
with free as (
    select q.id
    from audit_algolia.queue as q
    where q.index_id = $1
        and q.id = any ($2)
    for update skip locked
)
delete from audit_algolia.queue as q
using free as f
where q.index_id = $1
    and q.id = f.id
returning q.id
