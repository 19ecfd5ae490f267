-- Indices that nobody uses: no source, no rows, no dead letters, and no wish to keep it paused; $1 is spared. Locks those
-- that nobody else has locked, so that no table can be put under watch for one of them until the transaction ends.
select i.id
from audit_algolia.index as i
where i.id <> $1
    and not i.paused
    and not exists (select from audit_algolia.source as s where s.index_id = i.id)
    and not exists (select from audit_algolia.queue as q where q.index_id = i.id)
    and not exists (select from audit_algolia.dead_letter as d where d.index_id = i.id)
for update of i skip locked
