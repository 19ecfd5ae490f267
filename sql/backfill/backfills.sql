-- The unfinished backfills, each with the table to read and what it still lacks: its table, or its triggers, which a
-- dump that is being restored creates last. $1: one source, or NULL for all; $2: its table or partition.
select
    b.source,
    s.relation::pg_catalog.oid,
    s.index_id,
    b.rows_per_second,
    s.xmin::text::bigint,
    b.relation::pg_catalog.oid,
    case
        when c.oid is null then 'the table does not exist'
        when not exists (
            select
            from pg_catalog.pg_trigger as t
            where t.tgrelid = c.oid
                and t.tgname = pg_catalog.format('audit_algolia_%s_insert', s.id)::pg_catalog.name
        ) then 'the table''s trigger is missing'
    end
from audit_algolia.backfill as b
join audit_algolia.source as s on s.id = b.source
left join pg_catalog.pg_class as c on c.oid = s.relation
where b.state in ('waiting', 'running', 'throttled')
    and ($1 is null or b.source = $1 and b.relation = $2)
order by b.source, b.relation
