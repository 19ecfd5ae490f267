-- Whether changes that could not be captured wait to be repaired.
select exists (select from audit_algolia.repair)
