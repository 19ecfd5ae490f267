-- When the next repair is due; NULL: there is none.
select min(r.next_attempt_at) from audit_algolia.repair as r
