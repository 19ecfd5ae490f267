//! A change that was skipped, and what can come of its repair.

use pgrx::pg_sys;

use crate::pg::text_datum::{TextArray, TextBytes};
use crate::record::Operation;

/// A skipped change, as its repair knows it.
pub(in crate::pg) struct SkippedChange {
    pub(in crate::pg) operation: Operation,
    pub(in crate::pg) key_columns: Vec<String>,
    pub(in crate::pg) key: TextArray,
    pub(in crate::pg) number: i64,
    pub(in crate::pg) changed_by: Option<TextBytes>,
    pub(in crate::pg) changed_at: Option<pg_sys::TimestampTz>,
    pub(in crate::pg) transaction_id: Option<i64>,
}

/// The result of a repair.
pub(in crate::pg) enum RepairOutcome {
    Queued,
    /// The rules do not ask for a record.
    NotWanted,
    /// Somebody is changing the row.
    Busy,
    /// The row is unknown: a record with only the key.
    KeyOnly(String),
    /// The key is no longer that of the source: likewise.
    OtherKey(String),
}
