-- Deletes the backfill of an attached partition: $1 the source, $2 the partition. Its rows have been queued, or are no
-- longer the table's.
delete from audit_algolia.backfill as b
where b.source = $1
    and b.relation = $2
