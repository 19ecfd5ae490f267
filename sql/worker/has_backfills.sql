-- Whether there is history to send.
select exists (select from audit_algolia.backfill as b where b.state in ('waiting', 'running', 'throttled'))
