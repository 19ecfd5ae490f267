-- The type of a column: $1 the table, $2 the column.
select a.atttypid
from pg_catalog.pg_attribute as a
where a.attrelid = $1 and a.attname::text = $2 and not a.attisdropped
