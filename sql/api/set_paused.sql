-- Pauses or resumes: $1 whether to pause, $2 the name of an index (NULL: all). Returns the indices concerned.
update audit_algolia.index as i
set paused = $1
where $2 is null or i.name = $2
returning i.id
