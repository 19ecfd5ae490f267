-- CREATE EXTENSION creates the schema, or uses an existing one as it is. The owner of an existing schema must be a superuser,
-- because owners can drop and replace objects in their schemas. The schema must be empty, because the statements below could
-- mistake existing objects for their own.
do $guard$
declare
    home pg_catalog.oid;
    keeper pg_catalog.oid;
begin
    select n.oid, n.nspowner into home, keeper
    from pg_catalog.pg_namespace as n
    where n.nspname operator(pg_catalog.=) 'audit_algolia'::pg_catalog.name;
    if exists (
        select from pg_catalog.pg_roles as r
        where r.oid operator(pg_catalog.=) keeper
            and not r.rolsuper
    ) then
        raise exception 'schema "audit_algolia" belongs to role "%", which is not a superuser', pg_catalog.pg_get_userbyid(keeper)
            using errcode = 'insufficient_privilege',
                hint = 'Drop or rename the schema. CREATE EXTENSION creates its own.';
    end if;
    if exists (
        select from pg_catalog.pg_depend as d
        where d.refclassid operator(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass::pg_catalog.oid
            and d.refobjid operator(pg_catalog.=) home
            and d.deptype operator(pg_catalog.=) 'n'::pg_catalog."char"
            and d.classid operator(pg_catalog.<>) 'pg_catalog.pg_extension'::pg_catalog.regclass::pg_catalog.oid
    ) then
        raise exception 'schema "audit_algolia" is not empty'
            using errcode = 'object_not_in_prerequisite_state',
                detail = 'Its objects could be mistaken for the extension''s.',
                hint = 'Drop or rename the schema. CREATE EXTENSION creates its own.';
    end if;
end
$guard$;
