-- Forgets the rules of tables that the current statement has dropped. Their indices stay known, for rows may still be
-- queued.
delete from audit_algolia.source as s
using pg_catalog.pg_event_trigger_dropped_objects() as d
where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
    and d.objsubid = 0
    and d.objid = s.relation
