//! Writes records into the queue, in the writer's own transaction.
//!
//! Rows are written directly to the heap and its indexes, many at a time; the executor would cost half as much again.
//! The queue has no triggers, constraints, policies or other indexes, which the executor would look after. If somebody
//! has added any, rows are written by the executor, with the rights of the extension's owner.

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

/// Rows written by one multi-insert, and bytes of their records.
const BATCH: usize = 128;
const BATCH_BYTES: usize = 256 << 10;
/// A record as long as this is not copied, but taken as it is.
const LONG: usize = 64 << 10;

/// A buffer for a record that is to be queued: before its content is the header of a text.
pub(in crate::pg) fn record_buffer() -> Buffer {
    Buffer::behind(pg_sys::VARHDRSZ)
}

/// A record as the queue keeps it. Records are made of strings, so they are valid; should one not be, it must not become
/// a text all the same.
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
    /// Where ids of history come from, of which the rows are: below zero, and the later the lower.
    history: Option<pg_sys::Oid>,
    /// The database keeps its texts in UTF-8.
    in_utf8: bool,
    rows: Vec<PendingRow>,
    /// Bytes of their records.
    bytes: usize,
    /// Where the queue was opened, which outlasts the contexts of single batches.
    context: pg_sys::MemoryContext,
    /// Where texts live until they are written, if there are many.
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

    /// The same for very many records: what they take is given back with each flush, and not only with the context the
    /// queue was opened in.
    pub(in crate::pg) fn open_for_many(index_id: i32, source: i32) -> SqlResult<QueueWriter> {
        let mut writer = QueueWriter::open(index_id, source)?;
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
    pub(super) fn open_for_history(
        index_id: i32,
        source: i32,
        sequence: pg_sys::Oid,
    ) -> SqlResult<QueueWriter> {
        let mut writer = QueueWriter::open_for_many(index_id, source)?;
        writer.history = Some(sequence);
        Ok(writer)
    }

    /// Adds one record under the next id, as `push_as` does.
    pub(in crate::pg) fn push(&mut self, record: &mut Buffer) -> SqlResult<bool> {
        let id = self.reserve();
        self.push_as(id, record)
    }

    /// The id of a record that is to name it.
    pub(super) fn reserve(&self) -> i64 {
        match self.history {
            None => next_id(&self.table.extension),
            Some(sequence) => -1 - next_historic(&self.table.extension, sequence),
        }
    }

    /// Adds one record, which is taken out of its buffer when it is long. Returns whether a flush is due.
    pub(super) fn push_as(&mut self, id: i64, record: &mut Buffer) -> SqlResult<bool> {
        self.add(id, QueueAction::AddObject, record, false)
    }

    /// The id of a version that is yet to be made; of history, which is older than any version there is, too.
    pub(super) fn reserve_version(&self) -> i64 {
        match self.history {
            None => fresh_id(&self.table.extension),
            Some(_) => self.reserve(),
        }
    }

    /// Adds a version of an object, the newest there is; as history, the oldest. The rest is as of `push_as`.
    pub(super) fn push_version(&mut self, action: QueueAction, record: &mut Buffer) -> SqlResult<bool> {
        self.push_version_as(self.reserve_version(), action, record)
    }

    /// Adds a version of an object under an id that tells it from older and newer ones. The rest is as of `push_as`.
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
        let own = matches!(text, Cow::Borrowed(_)) && bytes >= LONG;
        let (record, kept) = match own {
            false => (self.keep(text.as_bytes()), None),
            true => match TakenRecord::of(record) {
                Some(TakenRecord { text, buffer }) => (text, Some(buffer)),
                None => (self.keep(record), None),
            },
        };
        if bytes >= LONG {
            ensure_room(bytes);
        }
        self.rows.push(PendingRow { id, action, record, bytes, kept, object });
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
    pub(in crate::pg) fn flush(&mut self) -> SqlResult<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut spans = IdRanges::new();
        for row in &self.rows {
            spans.add(row.id, row.id);
        }
        let count = self.rows.len();
        // SAFETY: the rows' texts are alive by push's contract.
        unsafe { self.table.insert(&self.rows) }?;
        self.rows.clear();
        self.bytes = 0;
        if let Some(texts) = &mut self.texts {
            // SAFETY: what was in it has been written.
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

/// A long record, taken out of its buffer: a text where it was written.
struct TakenRecord {
    text: pg_sys::Datum,
    buffer: Box<Buffer>,
}

impl TakenRecord {
    /// Takes a record out of its buffer, if that has been made for it.
    fn of(record: &mut Buffer) -> Option<TakenRecord> {
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
        Some(TakenRecord { text: pg_sys::Datum::from(start), buffer })
    }
}

/// Sees to it that there is memory for twice as many bytes as a record has, which is what writing it takes: the row and its
/// compressed form. Want of it is an error of the record's here, and later one of the whole statement.
pub(in crate::pg) fn ensure_room(bytes: usize) {
    // SAFETY: allocates, and gives back.
    unsafe { pg_sys::pfree(pg_sys::MemoryContextAllocHuge(pg_sys::CurrentMemoryContext, 2 * bytes)) };
}
