-- Statement-level triggers of watched tables that do not see all rows they should. Rows come into a partition through
-- its root, and out of an inheritance child through its parent, whose own triggers would also see them; and a
-- subscription fires row-level triggers only. $1 the tables to look at, with their parents; $2 whether to look at all.
select s.id, c.oid, o.operation, t.tgenabled::text
from audit_algolia.source as s
cross join lateral pg_catalog.unnest(s.operations) as o (operation)
join pg_catalog.pg_class as c on c.oid = s.relation
join pg_catalog.pg_trigger as t
    on t.tgrelid = c.oid
    and t.tgname = pg_catalog.format('audit_algolia_%s_%s', s.id, o.operation)::pg_catalog.name
    and t.tgtype & 1 = 0
where ($2 or s.relation in (
        select pg_catalog.unnest($1::pg_catalog.oid[])
        union all
        select i.inhparent from pg_catalog.pg_inherits as i where i.inhrelid = any ($1)
    ))
    and o.operation <> 'truncate'
    and (
        c.relispartition
        or t.tgenabled in ('A', 'R')
        or o.operation <> 'insert'
            and exists (select from pg_catalog.pg_inherits as i where c.oid in (i.inhrelid, i.inhparent))
    )
