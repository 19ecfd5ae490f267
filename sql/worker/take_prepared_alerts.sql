-- Takes up to $1 alerts of prepared transactions that have been committed. Skips rows that another worker has taken.
delete from audit_algolia.prepared_alert
where ctid = any (array(select a.ctid from audit_algolia.prepared_alert as a limit $1 for update skip locked))
returning payload
