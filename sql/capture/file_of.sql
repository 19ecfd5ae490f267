-- The number of a relation's file: $1 the relation.
select pg_catalog.pg_relation_filenode($1::pg_catalog.regclass)
