-- For which source repairs are due, the one that has waited longest first: $1 now. Returns the table, the index, the
-- source, if there is one, and why nothing can be done yet: a dump that is being restored has the triggers last, and until
-- then rows may not be there.
select
    r.relation::pg_catalog.oid,
    r.index_id,
    s.id,
    c.oid is null,
    case
        when s.id is null then 'the table is not watched any more'
        when not exists (
            select
            from pg_catalog.pg_trigger as t
            where t.tgrelid = c.oid and t.tgname like pg_catalog.format('audit\_algolia\_%s\_%%', s.id)
        ) then 'the table''s triggers are missing'
    end
from audit_algolia.repair as r
left join pg_catalog.pg_class as c on c.oid = r.relation
left join audit_algolia.source as s on s.relation = r.relation and s.index_id = r.index_id
where r.next_attempt_at <= $1
order by r.next_attempt_at, r.id
limit 1
