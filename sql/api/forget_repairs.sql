-- Deletes repairs whose keys must not be stored any longer: $1 the table, $2 the index, $3 the columns that are
-- pseudonymized now.
delete from audit_algolia.repair as r
where r.relation = $1
    and r.index_id = $2
    and r.key_columns && $3
