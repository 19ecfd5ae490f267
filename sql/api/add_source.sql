-- Stores the rules of a source. Returns nothing if the table is already watched for this index.
insert into audit_algolia.source
    (relation, index_id, columns, pseudonymize, object_id, object_prefix, time_column, facets, filter, operations, mode,
     snapshot_boundary, alert)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
on conflict (relation, index_id) do nothing
returning id
