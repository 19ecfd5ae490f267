-- The schema is made by CREATE EXTENSION. One that was there before is used as it is, so it must not belong to somebody
-- who could drop or replace what stands in it, nor hold anything that the statements below would take for their own.
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
        raise exception 'schema "audit_algolia" belongs to role "%", who is no superuser', pg_catalog.pg_get_userbyid(keeper)
            using errcode = 'insufficient_privilege',
                hint = 'Drop or rename that schema; CREATE EXTENSION makes its own.';
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
                detail = 'What is in it could be taken for the extension''s own.',
                hint = 'Drop or rename that schema; CREATE EXTENSION makes its own.';
    end if;
end
$guard$;
