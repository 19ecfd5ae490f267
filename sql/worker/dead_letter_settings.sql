-- Moves rejected settings to the dead letters: $1 the index, $2 their version, $3 attempts, $4 status, $5 reason. If
-- newer settings have replaced them, nothing is moved. Skips a row that somebody has locked.
with free as (
    select c.index_id
    from audit_algolia.configuration as c
    where c.index_id = $1
        and c.version = $2
    for update skip locked
),
dead as (
    delete from audit_algolia.configuration as c
    using free as f
    where c.index_id = f.index_id
    returning c.index_id, c.version, c.wanted_at, c.settings
)
insert into audit_algolia.dead_letter
    (index_id, source, id, enqueued_at, action, record, attempts, http_status, error)
select d.index_id, 0, d.version, d.wanted_at, 's', d.settings, $3, $4, $5
from dead as d
