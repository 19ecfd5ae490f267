//! Writes records into the queue, in the writer's own transaction.
//!
//! Rows go to the heap and its indexes directly, many at a time: the executor's way costs half as much again.
//! What that way would look after (triggers, constraints, policies, other indexes) the queue does not have; when
//! somebody has given it any, rows go through the executor after all, with the owner's rights.

mod insert;

use std::borrow::Cow;

use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys;

use super::ids::{fresh_id, next_historic, next_id};
use crate::id_ranges::IdRanges;
use crate::pg::encoding::is_utf8;
use crate::pg::owner::{home, Home};
use crate::pg::report::{overflow, Outcome};
use crate::pg::{failpoint, xact};
use crate::record::{escape_non_ascii, identity, Buffer};
use insert::is_plain;

/// Rows written by one multi-insert, and bytes of their records.
const BATCH: usize = 128;
const BATCH_BYTES: usize = 256 << 10;
/// A record as long as this is not copied, but taken as it is.
const LONG: usize = 64 << 10;
/// Fewer rows than this are cheaper to insert one by one.
pub(super) const FEW: usize = 4;

/// A buffer for a record that is to be queued: before its content is the header of a text.
pub(in crate::pg) fn record_buffer() -> Buffer {
    Buffer::behind(pg_sys::VARHDRSZ)
}

/// What is to be done with a record, as `audit_algolia.queue.action` has it.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Action {
    AddObject = b'a',
    DeleteObject = b'd',
}

/// A record as the queue keeps it. Records are made of strings, so they are valid; should one not be, it must not become
/// a text all the same.
pub(super) fn storable(record: &[u8]) -> Outcome<Cow<'_, str>> {
    storable_in(is_utf8(), record)
}

fn storable_in(in_utf8: bool, record: &[u8]) -> Outcome<Cow<'_, str>> {
    match std::str::from_utf8(record) {
        Ok(record) if in_utf8 => Ok(Cow::Borrowed(record)),
        Ok(record) => escape_non_ascii(record).map_err(|error| overflow(error, "a watched table")),
        Err(_) => Ok(String::from_utf8_lossy(record)),
    }
}

/// A row of the queue to be written.
struct Row {
    id: i64,
    action: Action,
    record: pg_sys::Datum,
    bytes: usize,
    /// Where a long record is.
    kept: Option<Box<Buffer>>,
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
    /// Bytes of their records.
    bytes: usize,
    /// Where the slots live: the context the queue was opened in, which outlasts those of single batches.
    context: pg_sys::MemoryContext,
    /// Where texts live until they are written, if there are many.
    texts: Option<PgMemoryContexts>,
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
            bytes: 0,
            // SAFETY: there is a current context whenever PostgreSQL calls.
            context: unsafe { pg_sys::CurrentMemoryContext },
            texts: None,
        })
    }

    /// The same for very many records: what they take is given back with each flush, and not only with the context the
    /// queue was opened in.
    pub(in crate::pg) fn open_for_many(index_id: i32, source: i32) -> Outcome<Writer> {
        let mut writer = Writer::open(index_id, source)?;
        writer.expect_many();
        Ok(writer)
    }

    /// There will be many records.
    pub(super) fn expect_many(&mut self) {
        // SAFETY: the context the queue was opened in outlives us.
        unsafe {
            let current = pg_sys::MemoryContextSwitchTo(self.context);
            self.texts.get_or_insert_with(|| PgMemoryContexts::new("audit_algolia texts"));
            pg_sys::MemoryContextSwitchTo(current);
        }
    }

    /// The same for history, whose ids the blocks of `sequence` are for.
    pub(super) fn open_for_history(index_id: i32, source: i32, sequence: pg_sys::Oid) -> Outcome<Writer> {
        let mut writer = Writer::open_for_many(index_id, source)?;
        writer.history = Some(sequence);
        Ok(writer)
    }

    /// Adds one record under the next id, as `push_as` does.
    pub(in crate::pg) fn push(&mut self, record: &mut Buffer) -> Outcome<bool> {
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

    /// Adds one record, which is taken out of its buffer when it is long. Returns whether a flush is due.
    pub(super) fn push_as(&mut self, id: i64, record: &mut Buffer) -> Outcome<bool> {
        self.add(id, Action::AddObject, record, false)
    }

    /// The id of a version that is yet to be made; of history, which is older than any version there is, too.
    pub(super) fn reserve_version(&self) -> i64 {
        match self.history {
            None => fresh_id(&self.home),
            Some(_) => self.reserve(),
        }
    }

    /// Adds a version of an object, the newest there is; as history, the oldest. The rest is as of `push_as`.
    pub(super) fn push_version(&mut self, action: Action, record: &mut Buffer) -> Outcome<bool> {
        self.push_version_as(self.reserve_version(), action, record)
    }

    /// Adds a version of an object under an id that tells it from older and newer ones. The rest is as of `push_as`.
    pub(super) fn push_version_as(&mut self, id: i64, action: Action, record: &mut Buffer) -> Outcome<bool> {
        self.add(id, action, record, true)
    }

    fn add(&mut self, id: i64, action: Action, record: &mut Buffer, is_version: bool) -> Outcome<bool> {
        let text = storable_in(self.in_utf8, record)?;
        let object = is_version.then(|| self.keep(identity(&text).as_bytes()));
        let bytes = text.len();
        let own = matches!(text, Cow::Borrowed(_)) && bytes >= LONG;
        let (record, kept) = match own {
            false => (self.keep(text.as_bytes()), None),
            true => match Long::of(record) {
                Some(Long { text, buffer }) => (text, Some(buffer)),
                None => (self.keep(record), None),
            },
        };
        if bytes >= LONG {
            ensure_room(bytes);
        }
        self.rows.push(Row { id, action, record, bytes, kept, object });
        self.bytes += bytes;
        Ok(self.rows.len() >= BATCH || self.bytes >= BATCH_BYTES)
    }

    /// A copy as a text, which lives until the next flush.
    fn keep(&self, text: &[u8]) -> pg_sys::Datum {
        let context = self.texts.as_ref().map_or(self.context, PgMemoryContexts::value);
        // SAFETY: the context lives; header and text are written into as many bytes as have been allocated. More than the
        // server allocates at a time is its own error.
        unsafe {
            let length = pg_sys::VARHDRSZ + text.len();
            let copy: *mut pg_sys::varlena = pg_sys::MemoryContextAlloc(context, length).cast();
            pgrx::varlena::set_varsize_4b(copy, length as i32);
            std::ptr::copy_nonoverlapping(text.as_ptr(), copy.cast::<u8>().add(pg_sys::VARHDRSZ), text.len());
            pg_sys::Datum::from(copy)
        }
    }

    /// How many records wait to be written.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Takes back the records that have been added since there were so many.
    pub(super) fn truncate(&mut self, len: usize) {
        self.rows.truncate(len);
        self.bytes = self.rows.iter().map(|row| row.bytes).sum();
    }

    /// Writes what has been added.
    pub(in crate::pg) fn flush(&mut self) -> Outcome<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut spans = IdRanges::new();
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
        self.bytes = 0;
        if let Some(texts) = &mut self.texts {
            // SAFETY: what was in it has been written.
            unsafe { texts.reset() };
        }
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

/// A long record, as a text where it was written.
struct Long {
    text: pg_sys::Datum,
    buffer: Box<Buffer>,
}

impl Long {
    /// Takes a record out of its buffer, if that has been made for it.
    fn of(record: &mut Buffer) -> Option<Long> {
        let length = record.len() + pg_sys::VARHDRSZ;
        let whole = record.whole_mut();
        let start: *mut pg_sys::varlena = whole.as_mut_ptr().cast();
        let is_text = whole.len() == length && start.cast::<u64>().is_aligned();
        if !is_text {
            return None;
        }
        // SAFETY: the buffer begins with room for the header of a text of its length; its bytes stay where they are until
        // it is dropped.
        unsafe { pgrx::varlena::set_varsize_4b(start, length as i32) };
        let buffer = Box::new(std::mem::replace(record, record_buffer()));
        Some(Long { text: pg_sys::Datum::from(start), buffer })
    }
}

/// Sees to it that there is memory for twice as many bytes as a record has, which is what writing it takes: the row and its
/// compressed form. Want of it is an error of the record's here, and later one of the whole statement.
pub(in crate::pg) fn ensure_room(bytes: usize) {
    // SAFETY: allocates, and gives back.
    unsafe { pg_sys::pfree(pg_sys::MemoryContextAllocHuge(pg_sys::CurrentMemoryContext, 2 * bytes)) };
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
