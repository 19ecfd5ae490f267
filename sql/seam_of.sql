-- Which rows were there when a table came under watch: $1 the source.
select s.seam
from audit_algolia.source as s
where s.id = $1
