-- The partitions of mirrored tables that the current statement has dropped, found by the triggers that were dropped
-- with them. Returns the watched table, and the schema and name of the partition.
select s.relation::pg_catalog.regclass::pg_catalog.text, d.address_names[1], d.address_names[2]
from pg_catalog.pg_event_trigger_dropped_objects() as d
join audit_algolia.source as s
    on d.address_names[3] = pg_catalog.format('audit_algolia_%s_truncate', s.id)
where d.object_type = 'trigger'
    and s.mode = 'mirror'
