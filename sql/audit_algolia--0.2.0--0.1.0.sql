\echo Use "ALTER EXTENSION audit_algolia UPDATE TO '0.1.0'" to load this file. \quit
-- Version 0.1.0 cannot send alerts: sources that have a condition, and alerts that wait, would be lost.
do $alerts$
declare
    watched text := (
        select pg_catalog.string_agg(s.relation::text, ', ' order by s.id)
        from audit_algolia.source as s
        where s.alert is not null
    );
begin
    if watched is not null then
        raise exception 'version 0.1.0 of audit_algolia cannot send the alerts of %', watched
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Call audit_algolia.unwatch() for these tables, then audit_algolia.watch() without alert.';
    end if;
    if exists (select from audit_algolia.prepared_alert) then
        raise exception 'version 0.1.0 of audit_algolia cannot send the alerts of prepared transactions'
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Commit them, wait until audit_algolia.prepared_alert is empty, and try again.';
    end if;
end
$alerts$;

-- A view cannot lose a column.
drop view audit_algolia.sources;
create view audit_algolia.sources as
select
    s.id,
    s.relation as source,
    i.name as index_name,
    s.columns,
    s.pseudonymize,
    s.object_id,
    s.object_prefix,
    s.time_column,
    s.facets,
    s.filter,
    s.operations,
    s.mode,
    case
        when c.oid is null then 'table dropped'
        when t.present < pg_catalog.cardinality(s.operations) or l.lacks_leaf_trigger then 'trigger missing'
        when t.disabled then 'trigger disabled'
        when t.outdated then 'trigger outdated'
        else 'watching'
    end as state,
    s.created_at
from audit_algolia.source as s
join audit_algolia.index as i on i.id = s.index_id
left join pg_catalog.pg_class as c on c.oid = s.relation
cross join lateral (
    select
        pg_catalog.count(*) as present,
        pg_catalog.bool_or(g.tgenabled = 'D') as disabled,
        -- As in find_outdated_triggers.sql.
        pg_catalog.bool_or(
            g.tgtype & 1 = 0
            and o.operation <> 'truncate'
            and (
                c.relispartition
                or g.tgenabled in ('A', 'R')
                or o.operation <> 'insert'
                    and exists (select from pg_catalog.pg_inherits as h where c.oid in (h.inhrelid, h.inhparent))
            )
        ) as outdated
    from pg_catalog.unnest(s.operations) as o (operation)
    join pg_catalog.pg_trigger as g
        on g.tgrelid = s.relation
        and g.tgname = pg_catalog.format('audit_algolia_%s_%s', s.id, o.operation)::pg_catalog.name
) as t
cross join lateral (
    with recursive below (oid, kind) as (
        select c.oid, c.relkind
        where s.mode = 'mirror' and c.relkind = 'p'
        union all
        select p.oid, p.relkind
        from below as b
        join pg_catalog.pg_inherits as h on h.inhparent = b.oid and not h.inhdetachpending
        join pg_catalog.pg_class as p on p.oid = h.inhrelid
        where b.kind = 'p'
    )
    -- Partitions of mirrored tables without a trigger for TRUNCATE.
    select exists (
        select
        from below as b
        where b.kind = 'r'
            and not exists (
                select
                from pg_catalog.pg_trigger as g
                where g.tgrelid = b.oid
                    and g.tgname = pg_catalog.format('audit_algolia_%s_truncate', s.id)::pg_catalog.name
            )
    ) as lacks_leaf_trigger
) as l
union all
-- Tables that were restored or copied with their triggers, but without their rules.
select
    a.id, a.relation, null, null, null, null, null, null, null, null,
    pg_catalog.array_agg(a.operation order by a.operation), null, 'source missing', null
from (
    select
        g.tgrelid::pg_catalog.regclass as relation,
        case when b.arguments[1] ~ '^[0-9]{1,9}$' then b.arguments[1]::pg_catalog.int4 end as id,
        case
            when g.tgtype & 4 <> 0 then 'insert'
            when g.tgtype & 8 <> 0 then 'delete'
            when g.tgtype & 16 <> 0 then 'update'
            else 'truncate'
        end as operation
    from pg_catalog.pg_trigger as g
    -- Each argument ends with a zero byte.
    cross join lateral (
        select pg_catalog.string_to_array(pg_catalog.encode(g.tgargs, 'escape'), E'\\000') as arguments
    ) as b
    where g.tgfoid = 'audit_algolia.capture()'::pg_catalog.regprocedure
        -- Partitions and chunks inherit triggers from their parent, whose source counts.
        and g.tgparentid = 0
        and b.arguments[2] is distinct from 'partition'
) as a
where not exists (
    select
    from audit_algolia.source as s
    where s.id = a.id
        and (
            s.relation = a.relation
            or s.relation in (select p.relid from pg_catalog.pg_partition_ancestors(a.relation) as p)
            or s.relation in (select h.inhparent from pg_catalog.pg_inherits as h where h.inhrelid = a.relation)
        )
)
group by a.id, a.relation;
comment on view audit_algolia.sources is 'Watched tables, their rules, and whether their triggers are in place.';
comment on column audit_algolia.sources.id is 'Number of the source, as returned by watch().';
comment on column audit_algolia.sources.source is 'The watched table.';
comment on column audit_algolia.sources.index_name is 'The Algolia index that its records go to.';
comment on column audit_algolia.sources.columns is 'Allowed columns: col or col AS attribute.';
comment on column audit_algolia.sources.pseudonymize is 'Columns whose values are replaced by keyed pseudonyms.';
comment on column audit_algolia.sources.object_id is 'Key columns, whose joined values make the objectID.';
comment on column audit_algolia.sources.object_prefix is 'Put before each objectID.';
comment on column audit_algolia.sources.time_column is 'Column with the row''s own time, for ranking and time buckets.';
comment on column audit_algolia.sources.facets is 'Attributes that can be filtered on and counted.';
comment on column audit_algolia.sources.filter is 'Condition that a row must meet; NULL: every row.';
comment on column audit_algolia.sources.operations is 'Operations that are captured.';
comment on column audit_algolia.sources.mode is 'append: one record per change; mirror: the index holds the table''s rows.';
comment on column audit_algolia.sources.state is 'watching, trigger disabled, trigger missing, trigger outdated, source missing or table dropped.';
comment on column audit_algolia.sources.created_at is 'When watch() was called.';

create function audit_algolia.watch(
    source regclass,
    index_name text default null,
    columns text[] default null,
    pseudonymize text[] default '{}',
    object_id text[] default null,
    filter text default null,
    operations text[] default '{insert}',
    mode text default 'append',
    time_column text default null,
    facets text[] default '{}',
    backfill boolean default false,
    object_prefix text default '')
    returns integer
    language c volatile
    as 'MODULE_PATHNAME', 'watch_wrapper';
comment on function audit_algolia.watch(regclass, text, text[], text[], text[], text, text[], text, text, text[], boolean, text) is
    'Watches a table: from now on its committed changes are delivered to an Algolia index. Returns the source''s id. Needs ownership of the table.';

-- New objects belong to whoever runs the update, and must belong to the owner of the extension. The new function takes over
-- the rights that were granted on the old one; GRANT would record them as the extension's own, which a dump leaves out.
do $rights$
declare
    owner constant text := (
        select e.extowner::pg_catalog.regrole::text
        from pg_catalog.pg_extension as e
        where e.extname operator(pg_catalog.=) 'audit_algolia'::pg_catalog.name
    );
    former constant regprocedure :=
        'audit_algolia.watch(regclass, text, text[], text[], text[], text, text[], text, text, text[], boolean, text, text)';
    present constant regprocedure :=
        'audit_algolia.watch(regclass, text, text[], text[], text[], text, text[], text, text, text[], boolean, text)';
begin
    execute pg_catalog.format('alter view audit_algolia.sources owner to %s', owner);
    execute pg_catalog.format('alter function %s owner to %s', present, owner);
    execute pg_catalog.format('revoke all on function %s from public', present);
    update pg_catalog.pg_proc as p
    set proacl = (select f.proacl from pg_catalog.pg_proc as f where f.oid operator(pg_catalog.=) former)
    where p.oid operator(pg_catalog.=) present;
    update pg_catalog.pg_shdepend as d
    set objid = present
    from pg_catalog.pg_database as b
    where b.datname operator(pg_catalog.=) pg_catalog.current_database()
        and d.dbid operator(pg_catalog.=) b.oid
        and d.classid operator(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
        and d.objid operator(pg_catalog.=) former
        and d.deptype operator(pg_catalog.=) 'a'::pg_catalog."char";
    execute pg_catalog.format('drop function %s', former);
end
$rights$;
revoke all on table audit_algolia.sources from public;
-- As after a fresh install, see 40_grants.sql.
revoke all on type audit_algolia.sources from public;
delete from pg_catalog.pg_init_privs as p
using pg_catalog.pg_type as t
where p.classoid operator(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass::pg_catalog.oid
    and p.objoid operator(pg_catalog.=) t.oid
    and t.typnamespace operator(pg_catalog.=) 'audit_algolia'::pg_catalog.regnamespace::pg_catalog.oid;

drop table audit_algolia.prepared_alert;
alter table audit_algolia.source drop column alert;
