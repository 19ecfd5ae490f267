-- Forgets the rules of a source: $1 its id. Its index stays known, for rows may still be queued.
delete from audit_algolia.source as s
where s.id = $1
