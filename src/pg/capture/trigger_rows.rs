//! Rows as triggers see them: in the slots of a row-level trigger, in the transition tables of a statement, or in the
//! table before a TRUNCATE.

use pgrx::pg_sys;

use super::slot::{clear, is_large, TupleSlot};
use crate::record::Operation;

/// At most this many rows are read before memory is freed.
pub(super) const STRETCH: usize = 1024;

/// A row as a trigger gets it: its old and its new version. One of them is null for inserts and deletes.
#[derive(Clone, Copy)]
pub(super) struct TriggerRow {
    pub(super) old: TupleSlot,
    pub(super) new: TupleSlot,
}

impl TriggerRow {
    /// The row of a row-level trigger.
    pub(super) fn of(call: &pg_sys::TriggerData, operation: Operation) -> TriggerRow {
        let none = std::ptr::null_mut();
        match operation {
            Operation::Insert => TriggerRow { old: none, new: call.tg_trigslot },
            Operation::Update => TriggerRow { old: call.tg_trigslot, new: call.tg_newslot },
            _ => TriggerRow { old: call.tg_trigslot, new: none },
        }
    }

    /// Whether reading it needs memory of its own.
    ///
    /// # Safety
    /// Each slot is null or holds a row.
    pub(super) unsafe fn is_large(self) -> bool {
        // SAFETY: the caller guarantees this.
        unsafe { is_large(self.old) || is_large(self.new) }
    }

    /// The version that the filter judges and the record contains.
    pub(super) fn current(self) -> TupleSlot {
        if self.new.is_null() {
            self.old
        } else {
            self.new
        }
    }
}

/// The transition tables of a statement. For an update, the server adds the old and the new version of a row to their
/// tables together, so the nth row of one belongs to the nth row of the other.
pub(super) struct TransitionTables {
    old: TransitionTableReader,
    new: TransitionTableReader,
    /// The total number of rows.
    pub(super) count: usize,
}

impl TransitionTables {
    /// The transition tables of a statement-level trigger's call. `goes_back`: whether `mark` will be used.
    ///
    /// # Safety
    /// The call does not end before the tables are closed.
    pub(super) unsafe fn open(call: &pg_sys::TriggerData, goes_back: bool) -> TransitionTables {
        // SAFETY: the caller guarantees this.
        let (old, new) = unsafe {
            (
                TransitionTableReader::open(call.tg_oldtable, call.tg_relation, goes_back),
                TransitionTableReader::open(call.tg_newtable, call.tg_relation, goes_back),
            )
        };
        let count = old.count().max(new.count());
        TransitionTables { old, new, count }
    }

    /// The next row. It is valid until the following one is requested.
    pub(super) fn next(&self) -> Option<TriggerRow> {
        let (has_old, has_new) = (self.old.next(), self.new.next());
        (has_old || has_new).then_some(TriggerRow { old: self.old.slot, new: self.new.slot })
    }

    /// Remembers which row comes next.
    pub(super) fn mark(&self) {
        self.old.mark();
        self.new.mark();
    }

    /// Goes back to the row that `mark` remembered.
    pub(super) fn go_back(&self) {
        self.old.go_back();
        self.new.go_back();
    }

    /// Clears the slots of the row that was read last.
    pub(super) fn clear_slot(&self) {
        self.old.clear();
        self.new.clear();
    }

    pub(super) fn close(self) {
        self.old.close();
        self.new.close();
    }
}

/// All rows of a table, as the latest snapshot shows them.
pub(super) struct TableScan {
    scan: pg_sys::TableScanDesc,
    snapshot: pg_sys::Snapshot,
    slot: TupleSlot,
}

impl TableScan {
    /// `None` if the relation has no rows of its own, such as a partitioned table.
    ///
    /// # Safety
    /// The relation is open and locked until the scan is closed.
    pub(super) unsafe fn open(relation: pg_sys::Relation) -> Option<TableScan> {
        // SAFETY: the caller guarantees this. Scan, slot and snapshot are released by `close`, or by the abort after an
        // error.
        unsafe {
            if (*(*relation).rd_rel).relkind != pg_sys::RELKIND_RELATION as i8 {
                return None;
            }
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
            let slot = pg_sys::table_slot_create(relation, std::ptr::null_mut());
            let scan = pg_sys::table_beginscan(relation, snapshot, 0, std::ptr::null_mut());
            Some(TableScan { scan, snapshot, slot })
        }
    }

    /// The next row. It is valid until the following one is requested.
    pub(super) fn next(&self) -> Option<TupleSlot> {
        let forward = pg_sys::ScanDirection::ForwardScanDirection;
        // SAFETY: created together by `open`.
        unsafe { pg_sys::table_scan_getnextslot(self.scan, forward, self.slot) }.then_some(self.slot)
    }

    /// Clears the slot of the row that was read last.
    pub(super) fn clear_slot(&self) {
        // SAFETY: the slot was made by `open`.
        unsafe { clear(self.slot) };
    }

    pub(super) fn close(self) {
        // SAFETY: created by `open`, and not used any more.
        unsafe {
            pg_sys::table_endscan(self.scan);
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::UnregisterSnapshot(self.snapshot);
        }
    }
}

/// Reads a transition table. If there is none, it has no rows.
struct TransitionTableReader {
    store: *mut pg_sys::Tuplestorestate,
    slot: TupleSlot,
    /// The read pointer, and one that remembers a place, if wanted.
    pointers: Option<[i32; 2]>,
}

impl TransitionTableReader {
    /// # Safety
    /// `store` is null or a transition table of `relation`, and outlives the reader. Nobody else selects
    /// another of its read pointers meanwhile.
    unsafe fn open(
        store: *mut pg_sys::Tuplestorestate,
        relation: pg_sys::Relation,
        goes_back: bool,
    ) -> TransitionTableReader {
        if store.is_null() {
            return TransitionTableReader { store, slot: std::ptr::null_mut(), pointers: None };
        }
        // SAFETY: the tuplestore is read through a pointer of our own, because another trigger may be reading it, too.
        // After an error, the pointer is freed with the statement's tuplestore.
        unsafe {
            let pointer = || pg_sys::tuplestore_alloc_read_pointer(store, pg_sys::EXEC_FLAG_REWIND as i32);
            let reader = pointer();
            let pointers = goes_back.then(|| [reader, pointer()]);
            pg_sys::tuplestore_select_read_pointer(store, reader);
            pg_sys::tuplestore_rescan(store);
            let slot =
                pg_sys::MakeSingleTupleTableSlot((*relation).rd_att, &raw const pg_sys::TTSOpsMinimalTuple);
            TransitionTableReader { store, slot, pointers }
        }
    }

    fn mark(&self) {
        if let Some([reader, mark]) = self.pointers {
            // SAFETY: the store exists, as `open` requires. Both pointers were created by it.
            unsafe { pg_sys::tuplestore_copy_read_pointer(self.store, reader, mark) };
        }
    }

    fn go_back(&self) {
        if let Some([reader, mark]) = self.pointers {
            // SAFETY: as above.
            unsafe { pg_sys::tuplestore_copy_read_pointer(self.store, mark, reader) };
        }
    }

    fn count(&self) -> usize {
        if self.store.is_null() {
            return 0;
        }
        // SAFETY: the store exists, as `open` requires.
        usize::try_from(unsafe { pg_sys::tuplestore_tuple_count(self.store) }).unwrap_or(usize::MAX)
    }

    /// Reads the next row into the slot; `false` if there is none.
    fn next(&self) -> bool {
        // SAFETY: the store exists and its read pointer is selected, as `open` requires.
        !self.store.is_null()
            && unsafe { pg_sys::tuplestore_gettupleslot(self.store, true, false, self.slot) }
    }

    fn clear(&self) {
        if !self.slot.is_null() {
            // SAFETY: the slot was made by `open`.
            unsafe { clear(self.slot) };
        }
    }

    fn close(self) {
        if !self.slot.is_null() {
            // SAFETY: the slot was created by `open`, and is not used any more.
            unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.slot) };
        }
    }
}
