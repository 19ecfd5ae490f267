-- Postpones repairs: $1 their numbers, $2 why each failed (NULL: as before), $3 when each is tried again.
update audit_algolia.repair as r
set error = coalesce(v.error, r.error),
    attempts = r.attempts + 1,
    attempted_at = pg_catalog.clock_timestamp(),
    next_attempt_at = v.next_attempt_at
from rows from (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) as v (number, error, next_attempt_at)
where r.number = v.number
