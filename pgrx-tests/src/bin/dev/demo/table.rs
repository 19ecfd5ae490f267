//! The table that the demo watches.

/// The watched table and its index.
pub(super) const TABLE: &str = "document_changes";

/// How it is watched.
pub(super) const WATCH: &str = "SELECT audit_algolia.watch('document_changes',
    columns      => '{package, version, author, email, changed_at, urgency}',
    pseudonymize => '{author, email}',
    time_column  => 'changed_at',
    facets       => '{package, author, urgency}')";
