-- Where a time window begins, and whether its end and its length are valid: $1 the end, $2 the length. It uses the
-- caller's time zone, which decides how long a day is.
select $1 - $2, pg_catalog.isfinite($1), $2 >= interval '0'
