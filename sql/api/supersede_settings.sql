-- Drops the dead letters that are settings of an index: $1 the index. Others have taken their place.
delete from audit_algolia.dead_letter as d
where d.index_id = $1
    and d.action = 's'
