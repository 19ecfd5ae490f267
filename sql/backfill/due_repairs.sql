-- Repairs of a table that are due: $1 the table, $2 the index, $3 now, $4 the most to take. Locks them until the step
-- ends.
select r.operation, r.key_columns, r.key, r.number, r.changed_by, r.changed_at, r.transaction_id, r.error,
    r.enqueued_at, r.attempts
from audit_algolia.repair as r
where r.relation = $1
    and r.index_id = $2
    and r.next_attempt_at <= $3
order by r.next_attempt_at, r.number
limit $4
for update skip locked
