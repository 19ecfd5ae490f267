-- Deletes repairs that have been made: $1 their numbers.
delete from audit_algolia.repair as r
where r.number = any ($1)
