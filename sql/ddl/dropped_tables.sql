-- The tables that the current statement has dropped, except temporary ones. It runs under the search_path of whoever
-- executes that statement, so the operators are schema-qualified.
select d.objid
from pg_catalog.pg_event_trigger_dropped_objects() as d
where d.classid operator(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
    and d.objsubid operator(pg_catalog.=) 0
    and not d.is_temporary
    and d.object_type operator(pg_catalog.=) 'table'
