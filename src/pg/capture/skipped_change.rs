//! A change that was skipped, and what can come of its repair.

use pgrx::pg_sys;

use crate::pg::text_datum::{TextArray, TextBytes};
use crate::record::Operation;

/// A change that was skipped, as its repair knows it.
pub(in crate::pg) struct SkippedChange {
    pub(in crate::pg) operation: Operation,
    pub(in crate::pg) key_columns: Vec<String>,
    pub(in crate::pg) key: TextArray,
    pub(in crate::pg) number: i64,
    pub(in crate::pg) changed_by: Option<TextBytes>,
    pub(in crate::pg) changed_at: Option<pg_sys::TimestampTz>,
    pub(in crate::pg) transaction_id: Option<i64>,
}

/// What came of a repair.
pub(in crate::pg) enum RepairOutcome {
    Queued,
    /// The rules do not ask for a record of it.
    NotWanted,
    /// Somebody is changing the row.
    Busy,
    /// There is no telling what the row was: a record of its key alone.
    KeyOnly(String),
    /// The key is not, or not any more, that of the source: the same.
    OtherKey(String),
}
