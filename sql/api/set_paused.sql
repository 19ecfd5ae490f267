-- Pauses or resumes: $1 paused or not, $2 an index's name or null for all. Returns the indices addressed.
update audit_algolia.index as i
set paused = $1
where $2 is null or i.name = $2
returning i.id
