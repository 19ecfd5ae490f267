-- Tables and the numbers of their files: $1 the tables.
select c.oid, pg_catalog.pg_relation_filenode(c.oid::pg_catalog.regclass)
from pg_catalog.pg_class as c
where c.oid = any ($1)
order by c.oid
