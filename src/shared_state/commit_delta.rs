//! What one transaction changes in the queue.
#![forbid(unsafe_code)]

use crate::id_ranges::IdRanges;

/// What a transaction did to one index of its database.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct CommitDelta {
    pub index_id: i32,
    /// Rows added to the queue.
    pub queued: i64,
    /// Rows removed from the queue: delivered or dead-lettered.
    pub removed: i64,
    /// New dead letters, minus those that were redriven or discarded.
    pub dead: i64,
    /// New repairs, minus those that have been made.
    pub repairs: i64,
    /// The spans of the added rows.
    pub spans: IdRanges,
}

impl CommitDelta {
    /// No change.
    pub const EMPTY: CommitDelta =
        CommitDelta { index_id: 0, queued: 0, removed: 0, dead: 0, repairs: 0, spans: IdRanges::new() };

    /// Adds another change of the same index.
    pub fn add(&mut self, other: &CommitDelta) {
        self.queued += other.queued;
        self.removed += other.removed;
        self.dead += other.dead;
        self.repairs += other.repairs;
        for span in other.spans.iter() {
            self.spans.add(span.lo, span.hi);
        }
    }
}

/// The rows of one index, as counted or as expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Count {
    /// Waiting in the queue.
    pub queued: i64,
    /// Dead letters.
    pub dead: i64,
    /// Repairs that have not been made.
    pub repairs: i64,
}

/// How far the WAL must be flushed before rows that are visible now may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushTarget {
    /// Up to this LSN.
    Until(u64),
    /// To its current end: a visible commit may have an LSN that is not known yet.
    All,
}
