//! Changes that are not yet counted: those of transactions about to commit, and those of prepared transactions.
#![forbid(unsafe_code)]

use super::{CommitDelta, Count};

/// One change of a transaction that is about to commit, or is prepared and may commit.
#[derive(Clone, Copy)]
pub struct Announcement {
    /// The top-level transaction.
    pub xid: u32,
    pub database: u32,
    pub index_id: i32,
    /// It queues rows, and its commit will not wait for the WAL flush.
    pub is_lazy: bool,
    /// How many rows it adds to the queue, the dead letters and the repairs.
    pub count: Count,
}

impl Announcement {
    /// The change that a transaction is about to make to one index. `is_lazy`: its commit will not wait for the WAL
    /// flush.
    pub(super) fn new(xid: u32, database: u32, change: &CommitDelta, is_lazy: bool) -> Announcement {
        let count =
            Count { queued: change.queued - change.removed, dead: change.dead, repairs: change.repairs };
        let is_lazy = is_lazy && change.queued > 0;
        Announcement { xid, database, index_id: change.index_id, is_lazy, count }
    }
}

/// The number of entries for prepared transactions. A transaction takes one per index that it has queued rows for, and
/// at least one.
pub const PREPARED: usize = 256;

/// What a prepared transaction has queued for one index.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Prepared {
    /// A hash of the global identifier, which is meaningful only while `database` is not 0.
    pub gid: u64,
    /// The database it was prepared in; 0 marks a free entry.
    pub database: u32,
    pub xid: u32,
    /// It created, dropped or paused something: when it commits, launcher and workers have to look.
    pub stale: bool,
    /// Without index and rows if it has queued nothing.
    pub change: CommitDelta,
}

impl Prepared {
    /// The announcement for a count, which may see the rows before they are published.
    pub(super) fn announcement(&self) -> Announcement {
        // COMMIT PREPARED always waits for the WAL flush.
        Announcement::new(self.xid, self.database, &self.change, false)
    }
}
