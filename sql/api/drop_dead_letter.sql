-- Deletes one dead letter: $1 the index, $2 its id.
delete from audit_algolia.dead_letter as d
where d.index_id = $1
    and d.id = $2
