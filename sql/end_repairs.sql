-- Forgets repairs that have been made: $1 their ids.
delete from audit_algolia.repair as r
where r.id = any ($1)
