-- How values are compared and written: $1 their type, $2 the operator that orders them, $3 the one for "not after", $4
-- the one for equality. Returns the type without a length, and the operators with their schemas.
select
    pg_catalog.format_type($1, -1),
    pg_catalog.quote_ident(before_schema.nspname) || '.' || before.oprname,
    pg_catalog.quote_ident(upto_schema.nspname) || '.' || upto.oprname,
    pg_catalog.quote_ident(same_schema.nspname) || '.' || same.oprname
from pg_catalog.pg_operator as before
join pg_catalog.pg_namespace as before_schema on before_schema.oid = before.oprnamespace
join pg_catalog.pg_operator as upto on upto.oid = $3
join pg_catalog.pg_namespace as upto_schema on upto_schema.oid = upto.oprnamespace
join pg_catalog.pg_operator as same on same.oid = $4
join pg_catalog.pg_namespace as same_schema on same_schema.oid = same.oprnamespace
where before.oid = $2
