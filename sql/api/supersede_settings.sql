-- Deletes dead letters that are settings of an index, because newer settings replace them: $1 the index.
delete from audit_algolia.dead_letter as d
where d.index_id = $1
    and d.action = 's'
