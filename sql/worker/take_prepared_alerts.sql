-- Takes up to $1 alerts of prepared transactions that have been committed. It waits for nobody: rows that another worker
-- has taken are left out.
delete from audit_algolia.prepared_alert
where ctid = any (array(select a.ctid from audit_algolia.prepared_alert as a limit $1 for update skip locked))
returning payload
