-- Forgets those of the locked indices $1 that are unused still: since they were found, and before they were locked, a
-- table may have been put under watch for one of them.
delete from audit_algolia.index as i
where i.id = any ($1)
    and not i.paused
    and not exists (select from audit_algolia.source as s where s.index_id = i.id)
    and not exists (select from audit_algolia.queue as q where q.index_id = i.id)
    and not exists (select from audit_algolia.dead_letter as d where d.index_id = i.id)
