//! Rows as triggers have them: in slots, and of a whole statement in transition tables.

use pgrx::pg_sys;

use super::queue;

pub(super) type Slot = *mut pg_sys::TupleTableSlot;

/// Reads a transition table; of one that is not there, nothing.
pub(super) struct Reader {
    store: *mut pg_sys::Tuplestorestate,
    pub(super) slot: Slot,
}

impl Reader {
    /// # Safety
    /// `store` is null or a transition table of `relation`.
    pub(super) unsafe fn open(store: *mut pg_sys::Tuplestorestate, relation: pg_sys::Relation) -> Reader {
        if store.is_null() {
            return Reader { store, slot: std::ptr::null_mut() };
        }
        // SAFETY: the tuplestore is read through a pointer of our own, for another trigger may be reading it too, and it
        // may have spilled; a forgotten pointer (on error) dies with the statement's tuplestore.
        unsafe {
            let reader = pg_sys::tuplestore_alloc_read_pointer(store, pg_sys::EXEC_FLAG_REWIND as i32);
            pg_sys::tuplestore_select_read_pointer(store, reader);
            pg_sys::tuplestore_rescan(store);
            let slot =
                pg_sys::MakeSingleTupleTableSlot((*relation).rd_att, &raw const pg_sys::TTSOpsMinimalTuple);
            Reader { store, slot }
        }
    }

    /// How many rows there are, read or not.
    ///
    /// # Safety
    /// The transition table is still there.
    pub(super) unsafe fn count(&self) -> usize {
        if self.store.is_null() {
            return 0;
        }
        // SAFETY: handed on to the caller.
        usize::try_from(unsafe { pg_sys::tuplestore_tuple_count(self.store) }).unwrap_or(usize::MAX)
    }

    /// Whether there was another row, which is in the slot now.
    ///
    /// # Safety
    /// The transition table is still there, and nobody has selected another read pointer since `open`.
    pub(super) unsafe fn next(&self) -> bool {
        // SAFETY: handed on to the caller.
        !self.store.is_null()
            && unsafe { pg_sys::tuplestore_gettupleslot(self.store, true, false, self.slot) }
    }

    pub(super) fn clear(&self) {
        if !self.slot.is_null() {
            // SAFETY: the slot was made by `open`.
            unsafe { queue::clear(self.slot) };
        }
    }

    pub(super) fn close(self) {
        if !self.slot.is_null() {
            // SAFETY: the slot was made by `open`, and is used no more.
            unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.slot) };
        }
    }
}

/// Reads a slot's first `width` values, unless they have been read already.
///
/// # Safety
/// The slot holds a row of a relation with so many columns.
pub(super) unsafe fn read(slot: Slot, width: usize) {
    // SAFETY: handed on to the caller; this is slot_getsomeattrs, an inline function of the server's.
    unsafe {
        if usize::try_from((*slot).tts_nvalid).unwrap_or(0) < width {
            pg_sys::slot_getsomeattrs_int(slot, width as i32);
        }
    }
}

/// # Safety
/// The slot's first `place` + 1 values have been read.
pub(super) unsafe fn value_in(slot: Slot, place: usize) -> Option<pg_sys::Datum> {
    // SAFETY: handed on to the caller.
    unsafe { (!*(*slot).tts_isnull.add(place)).then(|| *(*slot).tts_values.add(place)) }
}
