-- The tables and indices that have repairs. Returns for each when its first repair is due, the source if there is one,
-- whether the table was dropped, and why repairs must wait: a dump that is being restored creates the triggers last,
-- and until then rows may be missing. It reads one repair of each, however many there are.
with recursive groups as (
    (
        select r.relation, r.index_id, r.next_attempt_at
        from audit_algolia.repair as r
        order by r.relation, r.index_id, r.next_attempt_at
        limit 1
    )
    union all
    select n.relation, n.index_id, n.next_attempt_at
    from groups as g
    cross join lateral (
        select r.relation, r.index_id, r.next_attempt_at
        from audit_algolia.repair as r
        where (r.relation, r.index_id) > (g.relation, g.index_id)
        order by r.relation, r.index_id, r.next_attempt_at
        limit 1
    ) as n
)
select
    g.relation::pg_catalog.oid,
    g.index_id,
    g.next_attempt_at,
    s.id,
    c.oid is null,
    case
        when s.id is null then 'the table is no longer watched'
        when not exists (
            select
            from pg_catalog.pg_trigger as t
            where t.tgrelid = c.oid and t.tgname like pg_catalog.format(E'audit\\_algolia\\_%s\\_%%', s.id)
        ) then 'the table''s triggers are missing'
    end
from groups as g
left join pg_catalog.pg_class as c on c.oid = g.relation
left join audit_algolia.source as s on s.relation = g.relation and s.index_id = g.index_id
