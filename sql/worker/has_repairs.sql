-- Whether there are repairs.
select exists (select from audit_algolia.repair)
