-- Whether a table is a hypertable: $1 the table. Run only where TimescaleDB is installed.
select exists (
    select
    from timescaledb_information.hypertables as h
    join pg_catalog.pg_namespace as n on n.nspname = h.hypertable_schema
    join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = h.hypertable_name
    where c.oid = $1
)
