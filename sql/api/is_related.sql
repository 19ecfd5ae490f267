-- Whether a table has inheritance parents or children: $1 the table.
select exists (select from pg_catalog.pg_inherits as i where $1 in (i.inhrelid, i.inhparent))
