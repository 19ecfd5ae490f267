-- Makes an index known, or finds it: $1 its name.
with made as (
    insert into audit_algolia.index (name) values ($1)
    on conflict (name) do nothing
    returning id
)
select id from made
union all
select i.id from audit_algolia.index as i where i.name = $1
limit 1
