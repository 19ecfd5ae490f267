-- Whether user $1 may create triggers on all tables of the list $2.
select not exists (
    select
    from pg_catalog.unnest($2) as t (relation)
    where not pg_catalog.has_table_privilege($1, t.relation, 'trigger')
)
