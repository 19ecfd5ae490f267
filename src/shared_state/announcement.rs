//! Changes that are not yet counted: those of transactions about to commit, and those of prepared transactions.
#![forbid(unsafe_code)]

use super::{CommitDelta, Count};

/// A change announced by a transaction that is about to commit, or may.
#[derive(Clone, Copy)]
pub struct Announcement {
    /// The top-level transaction.
    pub xid: u32,
    pub database: u32,
    pub index_id: i32,
    /// It queues rows and will not wait for the disk.
    pub is_lazy: bool,
    /// By how much queue, dead letters and repairs grow.
    pub count: Count,
}

impl Announcement {
    /// What a transaction that is about to commit, `is_lazy` without waiting for the disk, does to one index.
    pub(super) fn new(xid: u32, database: u32, change: &CommitDelta, is_lazy: bool) -> Announcement {
        let count =
            Count { queued: change.queued - change.removed, dead: change.dead, repairs: change.repairs };
        let is_lazy = is_lazy && change.queued > 0;
        Announcement { xid, database, index_id: change.index_id, is_lazy, count }
    }
}

/// Entries for prepared transactions; each takes one per index it has rows for, and one at least.
pub const PREPARED: usize = 256;

/// What a prepared transaction has queued for one index.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Prepared {
    /// A hash of the global identifier; only meaningful while `database` is not 0.
    pub gid: u64,
    /// The database it was prepared in; 0 marks a free entry.
    pub database: u32,
    pub xid: u32,
    /// It has made, dropped or paused something: launcher and workers have to look.
    pub stale: bool,
    /// With no index and no rows when it has queued nothing.
    pub change: CommitDelta,
}

impl Prepared {
    /// What a recount must know of it, for it may see the rows before they are published.
    pub(super) fn announcement(&self) -> Announcement {
        // COMMIT PREPARED waits for the disk.
        Announcement::new(self.xid, self.database, &self.change, false)
    }
}
