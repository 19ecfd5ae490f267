-- Deletes the rules of a source and the progress of its backfill: $1 its id. The index stays, because rows may still
-- be queued.
with gone as (
    delete from audit_algolia.source as s
    where s.id = $1
    returning s.id
)
delete from audit_algolia.backfill as b
using gone as g
where b.source = g.id
