-- The newest version of each object, and since when its oldest version has been waiting: $1 the index, $2 objects. The
-- worker has claimed the objects before, and reads under a later snapshot, so versions that were delivered are deleted
-- by then.
select o.object, v.id, v.action, v.record, w.enqueued_at
from pg_catalog.unnest($2) as o (object)
cross join lateral (
    select q.id, q.action, q.record
    from audit_algolia.queue as q
    where q.index_id = $1
        and q.object = o.object
    order by q.id desc
    limit 1
) as v
cross join lateral (
    select q.enqueued_at
    from audit_algolia.queue as q
    where q.index_id = $1
        and q.object = o.object
    order by q.id
    limit 1
) as w
