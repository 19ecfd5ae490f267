-- Indices that nobody uses: no source, no queued rows, no dead letters, no settings and no repairs. They stay in the
-- table, because somebody may watch a table for them again, or may be restoring a dump that has brought only the index
-- so far.
select i.id
from audit_algolia.index as i
where not exists (select from audit_algolia.source as s where s.index_id = i.id)
    and not exists (select from audit_algolia.queue as q where q.index_id = i.id)
    and not exists (select from audit_algolia.dead_letter as d where d.index_id = i.id)
    and not exists (select from audit_algolia.configuration as c where c.index_id = i.id)
    and not exists (select from audit_algolia.repair as r where r.index_id = i.id)
