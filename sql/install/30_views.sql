-- The view reads only the extension's own tables and the catalogs.
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
    s.created_at,
    s.alert
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
    pg_catalog.array_agg(a.operation order by a.operation), null, 'source missing', null, null
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
comment on column audit_algolia.sources.alert is 'Condition for records that alert; NULL: none.';

create view audit_algolia.dead_letters as
select
    d.id,
    i.name as index_name,
    d.object_id,
    case d.action
        when 'a' then 'addObject'
        when 'd' then 'deleteObject'
        when 's' then 'settings'
        else d.action::pg_catalog.text
    end as action,
    -- Not jsonb, which cannot hold every text that json can.
    d.record::pg_catalog.json as record,
    d.attempts,
    d.http_status,
    d.error,
    d.enqueued_at,
    d.died_at
from audit_algolia.dead_letter as d
join audit_algolia.index as i on i.id = d.index_id;
comment on view audit_algolia.dead_letters is
    'Records that were given up, with the reason. Fix the cause, then call audit_algolia.redrive() or audit_algolia.discard().';
comment on column audit_algolia.dead_letters.id is 'Argument of redrive() and discard().';
comment on column audit_algolia.dead_letters.index_name is 'The Algolia index of the record.';
comment on column audit_algolia.dead_letters.object_id is 'The record''s objectID.';
comment on column audit_algolia.dead_letters.action is 'Operation, in Algolia''s words: addObject or deleteObject; settings: settings of the index.';
comment on column audit_algolia.dead_letters.record is 'The record as it was sent, or would have been.';
comment on column audit_algolia.dead_letters.attempts is 'How often the record was rejected; 0: it was too large to send. For a change that could not be captured: how often capture was retried.';
comment on column audit_algolia.dead_letters.http_status is 'HTTP status of Algolia''s answer; NULL: the record was not sent.';
comment on column audit_algolia.dead_letters.error is 'Why the record was rejected.';
comment on column audit_algolia.dead_letters.enqueued_at is 'When the record was queued.';
comment on column audit_algolia.dead_letters.died_at is 'When the record was given up.';

create view audit_algolia.backfill_progress as
select
    s.relation as source,
    b.state,
    case
        when b.state = 'finished' then b.rows_done
        when b.rows_total is not null then greatest(b.rows_total, b.rows_done)
    end as rows_total,
    b.rows_done,
    case
        when b.state = 'finished' then 100
        -- An estimate may be too low, so only a finished backfill shows 100.
        when b.rows_total > 0 then least(99.9, pg_catalog.round(100.0 * b.rows_done / b.rows_total, 1))
    end::double precision as percent,
    r.rows_per_second,
    case
        when b.rows_total is not null and r.rows_per_second > 0
            then pg_catalog.clock_timestamp()
                + pg_catalog.make_interval(secs => greatest(b.rows_total - b.rows_done, 0) / r.rows_per_second)
    end as eta,
    b.started_at,
    b.last_error,
    i.name as index_name,
    b.since,
    b.until,
    b.rows_per_second as rows_per_second_limit,
    b.rows_queued,
    b.requested_at,
    b.ended_at,
    case when b.relation <> s.relation then b.relation end as partition
from audit_algolia.backfill as b
join audit_algolia.source as s on s.id = b.source and b.state <> 'attached'
join audit_algolia.index as i on i.id = s.index_id
cross join lateral (
    select case
        when b.state in ('running', 'throttled') then
            -- The rate decays while no step is made.
            b.rate * pg_catalog.exp(-greatest(
                0, extract(epoch from pg_catalog.clock_timestamp() - b.rate_at)::double precision - 2) / 10)
        else 0
    end as rows_per_second
) as r;
comment on view audit_algolia.backfill_progress is 'Progress of backfills: one row per source with a backfill, and per partition that was attached to a mirrored table.';
comment on column audit_algolia.backfill_progress.source is 'The watched table.';
comment on column audit_algolia.backfill_progress.state is
    'waiting (not begun), running, throttled (waits for delivery or for rows_per_second), finished, cancelled or failed.';
comment on column audit_algolia.backfill_progress.rows_total is 'Number of rows to read: counted up to 100,000 if that is quick, else the planner''s estimate; exact when finished.';
comment on column audit_algolia.backfill_progress.rows_done is 'Rows read, whether or not the filter accepted them; without rows captured since watch().';
comment on column audit_algolia.backfill_progress.percent is 'rows_done / rows_total; 100 only when finished.';
comment on column audit_algolia.backfill_progress.rows_per_second is 'Rows read per second, over the last seconds.';
comment on column audit_algolia.backfill_progress.eta is 'Estimated time at which the last row will be queued.';
comment on column audit_algolia.backfill_progress.started_at is 'When the first row was read.';
comment on column audit_algolia.backfill_progress.last_error is 'Why the backfill cannot continue, or why it stopped last.';
comment on column audit_algolia.backfill_progress.index_name is 'The Algolia index that the records go to.';
comment on column audit_algolia.backfill_progress.since is 'Only rows at or after this time; NULL: no lower bound.';
comment on column audit_algolia.backfill_progress.until is 'Only rows before this time; NULL: no upper bound.';
comment on column audit_algolia.backfill_progress.rows_per_second_limit is 'Maximum number of rows read per second; NULL: as fast as they are delivered.';
comment on column audit_algolia.backfill_progress.rows_queued is 'Rows read and queued, without those that the filter rejected.';
comment on column audit_algolia.backfill_progress.requested_at is 'When the backfill was requested.';
comment on column audit_algolia.backfill_progress.ended_at is 'When the backfill finished, was cancelled or failed.';
comment on column audit_algolia.backfill_progress.partition is
    'The attached partition, until its rows have been queued; NULL: the whole table.';
