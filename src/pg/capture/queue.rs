//! Writes records into the queue, in the writer's own transaction.
//!
//! Rows are written directly to the heap and its indexes, many at a time; the executor would cost half as much again.
//! The queue has no triggers, constraints, policies or other indexes, which the executor would look after. If somebody
//! has added any, rows are written by the executor, with the rights of the extension's owner.

mod executor;
mod table;

use std::borrow::Cow;

use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys;

use super::ids::{fresh_id, next_historic, next_id};
use crate::id_ranges::IdRanges;
use crate::pg::encoding::is_utf8;
use crate::pg::report::{overflow, SqlResult};
use crate::pg::{failpoint, xact};
use crate::record::{escape_non_ascii, identity, Buffer};
use table::{PendingRow, QueueTable};

pub(super) use table::{QueueAction, FEW};

/// How many rows, and bytes of records, one multi-insert writes.
const BATCH: usize = 128;
const BATCH_BYTES: usize = 256 << 10;
/// A record of at least this length is not copied; its buffer is taken over.
const TAKE_OVER_FROM: usize = 64 << 10;

/// A buffer for a record that will be queued. It has room for a varlena header before its content.
pub(in crate::pg) fn record_buffer() -> Buffer {
    Buffer::behind(pg_sys::VARHDRSZ)
}

/// A record as the queue stores it. Records consist of valid strings; if one were invalid, it must not become a text
/// nevertheless.
pub(super) fn storable(record: &[u8]) -> SqlResult<Cow<'_, str>> {
    storable_in(is_utf8(), record)
}

fn storable_in(in_utf8: bool, record: &[u8]) -> SqlResult<Cow<'_, str>> {
    match std::str::from_utf8(record) {
        Ok(record) if in_utf8 => Ok(Cow::Borrowed(record)),
        Ok(record) => escape_non_ascii(record).map_err(|error| overflow(error, "a watched table")),
        Err(_) => Ok(String::from_utf8_lossy(record)),
    }
}

/// Writes the records of one statement.
pub(in crate::pg) struct QueueWriter {
    table: QueueTable,
    /// For history: the sequence that its ids come from. These ids are negative, and later rows have lower ones.
    history: Option<pg_sys::Oid>,
    /// The database's encoding is UTF-8.
    in_utf8: bool,
    rows: Vec<PendingRow>,
    /// The total size of their records.
    bytes: usize,
    /// The context in which the queue was opened, which outlives the contexts of single batches.
    context: pg_sys::MemoryContext,
    /// The context of texts that wait to be written, if there are many.
    texts: Option<PgMemoryContexts>,
}

impl QueueWriter {
    /// Opens the queue. Its locks are kept until the transaction ends.
    pub(in crate::pg) fn open(index_id: i32, source: i32) -> SqlResult<QueueWriter> {
        Ok(QueueWriter {
            table: QueueTable::open(index_id, source)?,
            history: None,
            in_utf8: is_utf8(),
            rows: Vec::new(),
            bytes: 0,
            // SAFETY: there is a current context whenever PostgreSQL calls.
            context: unsafe { pg_sys::CurrentMemoryContext },
            texts: None,
        })
    }

    /// The same for very many records: their memory is freed at each flush, and not only with the context in which the
    /// queue was opened.
    pub(in crate::pg) fn open_for_many(index_id: i32, source: i32) -> SqlResult<QueueWriter> {
        let mut writer = QueueWriter::open(index_id, source)?;
        writer.expect_many();
        Ok(writer)
    }

    /// Prepares for many records.
    pub(super) fn expect_many(&mut self) {
        // SAFETY: the context in which the queue was opened outlives the writer.
        unsafe {
            let current = pg_sys::MemoryContextSwitchTo(self.context);
            self.texts.get_or_insert_with(|| PgMemoryContexts::new("audit_algolia texts"));
            pg_sys::MemoryContextSwitchTo(current);
        }
    }

    /// The same for history, whose ids come from `sequence`.
    pub(super) fn open_for_history(
        index_id: i32,
        source: i32,
        sequence: pg_sys::Oid,
    ) -> SqlResult<QueueWriter> {
        let mut writer = QueueWriter::open_for_many(index_id, source)?;
        writer.history = Some(sequence);
        Ok(writer)
    }

    /// Adds a record with the next id; see `push_as`.
    pub(in crate::pg) fn push(&mut self, record: &mut Buffer) -> SqlResult<bool> {
        let id = self.reserve();
        self.push_as(id, record)
    }

    /// The id of a record that contains it.
    pub(super) fn reserve(&self) -> i64 {
        match self.history {
            None => next_id(&self.table.extension),
            Some(sequence) => -1 - next_historic(&self.table.extension, sequence),
        }
    }

    /// Adds a record. If it is long, its buffer is taken over. Returns whether a flush is due.
    pub(super) fn push_as(&mut self, id: i64, record: &mut Buffer) -> SqlResult<bool> {
        self.add(id, QueueAction::AddObject, record, false)
    }

    /// The id of a version that is not made yet. For history it is older than every other version.
    pub(super) fn reserve_version(&self) -> i64 {
        match self.history {
            None => fresh_id(&self.table.extension),
            Some(_) => self.reserve(),
        }
    }

    /// Adds a version of an object: the newest one, or for history the oldest. Otherwise as `push_as`.
    pub(super) fn push_version(&mut self, action: QueueAction, record: &mut Buffer) -> SqlResult<bool> {
        self.push_version_as(self.reserve_version(), action, record)
    }

    /// Adds a version of an object under an id that orders it among the others. Otherwise as `push_as`.
    pub(super) fn push_version_as(
        &mut self,
        id: i64,
        action: QueueAction,
        record: &mut Buffer,
    ) -> SqlResult<bool> {
        self.add(id, action, record, true)
    }

    fn add(
        &mut self,
        id: i64,
        action: QueueAction,
        record: &mut Buffer,
        is_version: bool,
    ) -> SqlResult<bool> {
        let text = storable_in(self.in_utf8, record)?;
        let object = is_version.then(|| self.keep(identity(&text).as_bytes()));
        let bytes = text.len();
        let own = matches!(text, Cow::Borrowed(_)) && bytes >= TAKE_OVER_FROM;
        let (record, kept) = match own {
            false => (self.keep(text.as_bytes()), None),
            true => match TakenRecord::of(record) {
                Some(TakenRecord { text, buffer }) => (text, Some(buffer)),
                None => (self.keep(record), None),
            },
        };
        if bytes >= TAKE_OVER_FROM {
            ensure_room(bytes);
        }
        self.rows.push(PendingRow { id, action, record, bytes, kept, object });
        self.bytes += bytes;
        Ok(self.rows.len() >= BATCH || self.bytes >= BATCH_BYTES)
    }

    /// Copies a text, which lives until the next flush.
    fn keep(&self, text: &[u8]) -> pg_sys::Datum {
        let context = self.texts.as_ref().map_or(self.context, PgMemoryContexts::value);
        // SAFETY: the context is alive. Header and text fit into the allocation. The server itself refuses an
        // allocation that is too large.
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

    /// Removes all records but the first `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        self.rows.truncate(len);
        self.bytes = self.rows.iter().map(|row| row.bytes).sum();
    }

    /// Writes the records that were added.
    pub(in crate::pg) fn flush(&mut self) -> SqlResult<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut spans = IdRanges::new();
        for row in &self.rows {
            spans.add(row.id, row.id);
        }
        let count = self.rows.len();
        // SAFETY: the texts live until the flush; see `keep` and `TakenRecord`.
        unsafe { self.table.insert(&self.rows) }?;
        self.rows.clear();
        self.bytes = 0;
        if let Some(texts) = &mut self.texts {
            // SAFETY: everything in it has been written.
            unsafe { texts.reset() };
        }
        failpoint::reach("in capture");
        xact::note_queued(self.table.index_id, count as i64, &spans);
        Ok(())
    }

    /// Closes the queue.
    pub(in crate::pg) fn close(self) {
        self.table.close();
    }
}

/// A long record taken over from its buffer: the buffer's memory is used as a text.
struct TakenRecord {
    text: pg_sys::Datum,
    buffer: Box<Buffer>,
}

impl TakenRecord {
    /// Takes over a buffer, if it has room for the header.
    fn of(record: &mut Buffer) -> Option<TakenRecord> {
        let length = record.len() + pg_sys::VARHDRSZ;
        let whole = record.whole_mut();
        let start: *mut pg_sys::varlena = whole.as_mut_ptr().cast();
        let is_text = whole.len() == length && start.cast::<u64>().is_aligned();
        if !is_text {
            return None;
        }
        // SAFETY: the buffer begins with room for a header. Its memory does not move until it is dropped.
        unsafe { pgrx::varlena::set_varsize_4b(start, length as i32) };
        let buffer = Box::new(std::mem::replace(record, record_buffer()));
        Some(TakenRecord { text: pg_sys::Datum::from(start), buffer })
    }
}

/// Checks that there is memory for twice the size of a record. Writing it needs that much, for the row and its
/// compressed form. Here the lack of memory is an error of the record; later it would be an error of the whole
/// statement.
pub(in crate::pg) fn ensure_room(bytes: usize) {
    // SAFETY: allocates and frees.
    unsafe { pg_sys::pfree(pg_sys::MemoryContextAllocHuge(pg_sys::CurrentMemoryContext, 2 * bytes)) };
}
