//! What the parts of a comparison share: its source, its range of time, its way to the index, and what it has found.

use std::rc::Rc;

use super::corrections::PendingCorrections;
use super::index_client::IndexClient;
use crate::hash_set::StringSet;
use crate::pg::api::Table;
use crate::pg::capture::{OpenTables, QueueWriter};
use crate::pg::rules::SourceRules;

/// The comparison of one source with its index.
pub(super) struct Comparison<'a> {
    pub(super) table: &'a Table,
    pub(super) id: i32,
    pub(super) rules: Rc<SourceRules>,
    pub(super) index_client: IndexClient,
    pub(super) window: TimeRange,
    /// The current rows of a mirrored table.
    pub(super) present: Option<OpenTables>,
    /// In append mode, what was waiting when the first mismatches were found.
    pub(super) backlog: Option<StringSet>,
    /// For a repair in append mode, the queue to which records are written again.
    pub(super) writer: Option<QueueWriter>,
    /// For a repair of a mirrored table, what is to be corrected at the end.
    pub(super) pending_corrections: Option<PendingCorrections>,
    pub(super) tally: Tally,
}

/// The rows to be compared, by their time in microseconds since PostgreSQL's epoch. The end is exclusive.
#[derive(Clone, Copy)]
pub(super) struct TimeRange {
    pub(super) since: Option<i64>,
    pub(super) until: Option<i64>,
}

impl TimeRange {
    pub(super) fn is_bounded(self) -> bool {
        self.since.is_some() || self.until.is_some()
    }
}

/// What was found and repaired.
#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) checked: i64,
    pub(super) missing: i64,
    pub(super) different: i64,
    pub(super) orphaned: i64,
    pub(super) repaired: i64,
}
