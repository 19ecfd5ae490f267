-- Deletes the rules of tables that the current statement has dropped, and the progress of their backfills: $1 the
-- tables and partitions. Their indices stay, because rows may still be queued.
with gone as (
    delete from audit_algolia.source as s
    where s.relation::pg_catalog.oid = any ($1)
    returning s.id
)
delete from audit_algolia.backfill as b
where b.source in (select g.id from gone as g)
    or b.relation::pg_catalog.oid = any ($1)
