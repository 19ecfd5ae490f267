//! The snapshots that rows are looked up with: one that shows rows being changed, and one of a single moment.

use pgrx::pg_sys;

/// A snapshot for looking up rows.
pub(super) struct LookupSnapshot {
    snapshot: pg_sys::Snapshot,
    is_dirty: bool,
}

impl LookupSnapshot {
    /// Shows uncommitted changes as well, and reports them for the row that was read last. It does not show a single
    /// moment: a row that is moved meanwhile can be missed. It lives in the current memory context.
    pub(super) fn dirty() -> LookupSnapshot {
        // SAFETY: such a snapshot consists of its type and its results, and the memory is zeroed.
        let snapshot = unsafe {
            let size = std::mem::size_of::<pg_sys::SnapshotData>();
            let snapshot = pg_sys::palloc0(size).cast::<pg_sys::SnapshotData>();
            (*snapshot).snapshot_type = pg_sys::SnapshotType::SNAPSHOT_DIRTY;
            snapshot
        };
        LookupSnapshot { snapshot, is_dirty: true }
    }

    /// Shows everything committed so far, even if it is moved later.
    pub(super) fn latest() -> LookupSnapshot {
        // SAFETY: released by `close`, or by the abort after an error.
        let snapshot = unsafe { pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot()) };
        LookupSnapshot { snapshot, is_dirty: false }
    }

    pub(super) fn snapshot(&self) -> pg_sys::Snapshot {
        self.snapshot
    }

    /// Whether another transaction is writing or deleting the row that was read last, as far as the snapshot shows
    /// that.
    pub(super) fn is_in_change(&self) -> bool {
        // SAFETY: the snapshot lives until `close`.
        let writers = unsafe { [(*self.snapshot).xmin, (*self.snapshot).xmax] };
        self.is_dirty && writers.iter().any(|writer| *writer != pg_sys::InvalidTransactionId)
    }

    pub(super) fn close(self) {
        // SAFETY: created above, and not used any more.
        unsafe {
            match self.is_dirty {
                true => pg_sys::pfree(self.snapshot.cast()),
                false => pg_sys::UnregisterSnapshot(self.snapshot),
            }
        }
    }
}
