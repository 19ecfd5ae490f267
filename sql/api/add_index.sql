-- Adds an index, or finds it: $1 its name. Locks its row until the transaction ends, so that two tables that come
-- under watch at once see each other's prefixes.
insert into audit_algolia.index as i (name)
values ($1)
on conflict (name) do update set name = excluded.name
returning i.id
