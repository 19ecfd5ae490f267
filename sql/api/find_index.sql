-- Whether an index exists: $1 its name.
select exists (select from audit_algolia.index as i where i.name = $1)
