-- An index and the sources that deliver to it: $1 its name, $2 the caller, whose rights decide. An index without
-- sources gives one row. Sources of dropped tables are left out.
select
    i.id,
    case when s.id is not null then pg_catalog.format('%I.%I', s.nspname, s.relname) end,
    pg_catalog.pg_has_role($2, s.relowner, 'usage'),
    s.columns,
    s.pseudonymize,
    s.object_id,
    s.time_column,
    s.facets,
    s.operations,
    s.mode,
    array(
        select a.attname::text
        from pg_catalog.pg_attribute as a
        where a.attrelid = s.relation and a.attnum > 0 and not a.attisdropped
        order by a.attnum
    ),
    array(
        -- A domain has the output function of its base type; of an array the type of its elements counts.
        select case
            when o.output = 'pg_catalog.boolout'::pg_catalog.regproc then 'boolean'
            when o.output in ('pg_catalog.json_out'::pg_catalog.regproc, 'pg_catalog.jsonb_out'::pg_catalog.regproc)
                then 'json'
            when o.output in (
                'pg_catalog.date_out'::pg_catalog.regproc, 'pg_catalog.timestamp_out'::pg_catalog.regproc,
                'pg_catalog.timestamptz_out'::pg_catalog.regproc
            ) then 'time'
            when o.output in (
                'pg_catalog.int2out'::pg_catalog.regproc, 'pg_catalog.int4out'::pg_catalog.regproc,
                'pg_catalog.int8out'::pg_catalog.regproc, 'pg_catalog.float4out'::pg_catalog.regproc,
                'pg_catalog.float8out'::pg_catalog.regproc, 'pg_catalog.numeric_out'::pg_catalog.regproc
            ) then 'number'
            else 'text'
        end
        from pg_catalog.pg_attribute as a
        join pg_catalog.pg_type as t on t.oid = a.atttypid
        left join pg_catalog.pg_type as e on e.oid = t.typelem and t.typcategory = 'A'
        cross join lateral (select coalesce(e.typoutput, t.typoutput) as output) as o
        where a.attrelid = s.relation and a.attnum > 0 and not a.attisdropped
        order by a.attnum
    ),
    s.relname::text,
    s.alert is not null
from audit_algolia.index as i
left join (
    select o.*, c.relname, c.relowner, n.nspname
    from audit_algolia.source as o
    join pg_catalog.pg_class as c on c.oid = o.relation
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
) as s on s.index_id = i.id
where i.name = $1
order by s.id
