-- Deletes all versions of objects up to the delivered ones: $1 the index, $2 objects, $3 the delivered ids. Older
-- versions are superseded; newer ones stay.
delete from audit_algolia.queue as q
using rows from (pg_catalog.unnest($2), pg_catalog.unnest($3)) as v (object, id)
where q.index_id = $1
    and q.object = v.object
    and q.id <= v.id
