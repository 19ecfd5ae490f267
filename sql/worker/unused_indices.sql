-- Indices that nobody uses: no source, no rows, no dead letters, no settings and no repairs that wait. They stay known,
-- for somebody may watch a table for them again, or be restoring a dump that has brought the index and not yet the rest.
select i.id
from audit_algolia.index as i
where not exists (select from audit_algolia.source as s where s.index_id = i.id)
    and not exists (select from audit_algolia.queue as q where q.index_id = i.id)
    and not exists (select from audit_algolia.dead_letter as d where d.index_id = i.id)
    and not exists (select from audit_algolia.configuration as c where c.index_id = i.id)
    and not exists (select from audit_algolia.repair as r where r.index_id = i.id)
