//! Writes records into the queue, in the writer's own transaction.
//!
//! Rows go to the heap and its indexes directly, many at a time: the executor's way costs half as much again.
//! What that way would look after (triggers, constraints, policies, other indexes) the queue does not have; when
//! somebody has given it any, rows go through the executor after all, with the owner's rights.

mod insert;

use std::borrow::Cow;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::ids::{fresh_id, next_historic, next_id};
use crate::pg::owner::{home, Home};
use crate::pg::report::Outcome;
use crate::pg::{failpoint, xact};
use crate::record::{escape_non_ascii, identity};
use crate::regions::Regions;
use insert::is_plain;

/// Rows written by one multi-insert.
const BATCH: usize = 128;
/// Fewer rows than this are cheaper to insert one by one.
pub(super) const FEW: usize = 4;

/// What is to be done with a record, as `audit_algolia.queue.action` has it.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Action {
    AddObject = b'a',
    DeleteObject = b'd',
}

/// Whether the database keeps its texts in UTF-8.
fn is_utf8() -> bool {
    // SAFETY: reads what is set when the session begins.
    unsafe { pg_sys::GetDatabaseEncoding() == pg_sys::pg_enc::PG_UTF8 as i32 }
}

/// A record as the queue keeps it. Records are made of strings, so they are valid; should one not be, it must not become
/// a text all the same.
pub(super) fn storable(record: &[u8]) -> Cow<'_, str> {
    storable_in(is_utf8(), record)
}

fn storable_in(in_utf8: bool, record: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(record) {
        Ok(record) if in_utf8 => Cow::Borrowed(record),
        Ok(record) => escape_non_ascii(record),
        Err(_) => String::from_utf8_lossy(record),
    }
}

/// A row of the queue to be written.
struct Row {
    id: i64,
    action: Action,
    record: pg_sys::Datum,
    /// Which object it is a version of.
    object: Option<pg_sys::Datum>,
}

/// Writes the records of one statement.
pub(in crate::pg) struct Writer {
    home: Home,
    /// Where ids of history come from, of which the rows are: below zero, and the later the lower.
    history: Option<pg_sys::Oid>,
    heap: pg_sys::Relation,
    pkey: pg_sys::Relation,
    /// The index of objects, which only their versions have entries in.
    objects: Option<pg_sys::Relation>,
    is_plain: bool,
    /// The database keeps its texts in UTF-8.
    in_utf8: bool,
    index_id: i32,
    source: i32,
    now: pg_sys::TimestampTz,
    rows: Vec<Row>,
    slots: Vec<*mut pg_sys::TupleTableSlot>,
    /// Where the slots live: the context the queue was opened in, which outlasts those of single batches.
    context: pg_sys::MemoryContext,
}

impl Writer {
    /// Opens the queue. Its locks are kept until the transaction ends.
    pub(in crate::pg) fn open(index_id: i32, source: i32) -> Outcome<Writer> {
        let lock = pg_sys::RowExclusiveLock as i32;
        let known = home()?;
        // SAFETY: the relation was found by name a moment ago; opening raises an error if it is gone.
        let heap = unsafe { pg_sys::table_open(known.queue, lock) };
        // Having it locked, we have heard of what was done to it, and nobody else does anything to it any more: its indexes
        // may have been made anew since we looked.
        let home = home()?;
        if home.queue != known.queue {
            // SAFETY: opened above.
            unsafe { pg_sys::table_close(heap, lock) };
            return Writer::open(index_id, source);
        }
        // SAFETY: as above; the index is one of the queue's.
        let (pkey, now) = unsafe {
            (pg_sys::index_open(home.queue_pkey, lock), pg_sys::GetCurrentStatementStartTimestamp())
        };
        // SAFETY: the relation is open.
        let is_plain = unsafe { is_plain(heap, [home.queue_pkey, home.queue_object]) };
        Ok(Writer {
            home,
            history: None,
            heap,
            pkey,
            objects: None,
            is_plain,
            in_utf8: is_utf8(),
            index_id,
            source,
            now,
            rows: Vec::new(),
            slots: Vec::new(),
            // SAFETY: there is a current context whenever PostgreSQL calls.
            context: unsafe { pg_sys::CurrentMemoryContext },
        })
    }

    /// The same for history, whose ids the blocks of `sequence` are for.
    pub(super) fn open_for_history(index_id: i32, source: i32, sequence: pg_sys::Oid) -> Outcome<Writer> {
        Ok(Writer { history: Some(sequence), ..Writer::open(index_id, source)? })
    }

    /// Adds one record under the next id, as `push_as` does.
    pub(in crate::pg) fn push(&mut self, record: &[u8]) -> bool {
        let id = self.reserve();
        self.push_as(id, record)
    }

    /// The id of a record that is to name it.
    pub(super) fn reserve(&self) -> i64 {
        match self.history {
            None => next_id(&self.home),
            Some(sequence) => -1 - next_historic(sequence),
        }
    }

    /// Adds one record. Its text is copied into the current memory context, which must live until the next flush.
    /// Returns whether a flush is due.
    pub(super) fn push_as(&mut self, id: i64, record: &[u8]) -> bool {
        let text = storable_in(self.in_utf8, record);
        if let Some(record) = text.as_ref().into_datum() {
            self.rows.push(Row { id, action: Action::AddObject, record, object: None });
        }
        self.rows.len() >= BATCH
    }

    /// The id of a version that is yet to be made; of history, which is older than any version there is, too.
    pub(super) fn reserve_version(&self) -> i64 {
        match self.history {
            None => fresh_id(&self.home),
            Some(_) => self.reserve(),
        }
    }

    /// Adds a version of an object, the newest there is; as history, the oldest. Memory and result are as of `push_as`.
    pub(super) fn push_version(&mut self, action: Action, record: &[u8]) -> bool {
        self.push_version_as(self.reserve_version(), action, record)
    }

    /// Adds a version of an object under an id that tells it from older and newer ones. Memory and result are as of
    /// `push_as`.
    pub(super) fn push_version_as(&mut self, id: i64, action: Action, record: &[u8]) -> bool {
        let text = storable_in(self.in_utf8, record);
        let object = identity(&text).as_ref().into_datum();
        if let Some(record) = text.as_ref().into_datum() {
            self.rows.push(Row { id, action, record, object });
        }
        self.rows.len() >= BATCH
    }

    /// How many records wait to be written.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Takes back the records that have been added since there were so many.
    pub(super) fn truncate(&mut self, len: usize) {
        self.rows.truncate(len);
    }

    /// Writes what has been added.
    pub(in crate::pg) fn flush(&mut self) -> Outcome<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut spans = Regions::new();
        for row in &self.rows {
            spans.add(row.id, row.id);
        }
        if self.objects.is_none() && self.rows.iter().any(|row| row.object.is_some()) {
            // SAFETY: the index was found by name with the queue; its lock is kept until the transaction ends.
            self.objects =
                Some(unsafe { pg_sys::index_open(self.home.queue_object, pg_sys::RowExclusiveLock as i32) });
        }
        let count = self.rows.len();
        // SAFETY: the relations are open and locked, and the rows' texts are alive by push's contract.
        unsafe {
            if !self.is_plain {
                self.insert_by_executor()?;
            } else if count < FEW {
                self.insert_singly();
            } else {
                self.insert_together();
            }
        }
        self.rows.clear();
        failpoint::reach("in capture");
        xact::note_queued(self.index_id, count as i64, &spans);
        Ok(())
    }

    /// Closes the queue.
    pub(in crate::pg) fn close(self) {
        // SAFETY: the counterpart of `open`; the slots were made by `insert_together` and are used no more.
        unsafe {
            for slot in self.slots {
                pg_sys::ExecDropSingleTupleTableSlot(slot);
            }
            pg_sys::index_close(self.pkey, pg_sys::NoLock as i32);
            if let Some(objects) = self.objects {
                pg_sys::index_close(objects, pg_sys::NoLock as i32);
            }
            pg_sys::table_close(self.heap, pg_sys::NoLock as i32);
        }
    }
}

/// # Safety
/// `slot` is a valid slot.
pub(super) unsafe fn clear(slot: *mut pg_sys::TupleTableSlot) {
    // SAFETY: every kind of slot has a clear method; this is ExecClearTuple, an inline function of the server's.
    unsafe {
        if let Some(clear) = (*(*slot).tts_ops).clear {
            pg_sys::ffi::pg_guard_ffi_boundary(|| clear(slot));
        }
    }
}
