-- Forgets the rules of tables that the current statement has dropped, and how far their history has been queued. Their
-- indices stay known, for rows may still be queued.
with gone as (
    delete from audit_algolia.source as s
    using pg_catalog.pg_event_trigger_dropped_objects() as d
    where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
        and d.objsubid = 0
        and d.objid = s.relation
    returning s.id
)
delete from audit_algolia.backfill as b
using gone as g
where b.source = g.id
