//! Rows of the queue as a claim reads them: records, and versions of objects.
//!
//! Only the length of a record is read here. Records are read one at a time when they are copied into the batch, so
//! that large ones do not pile up in memory; too large ones are not read at all. If a record is damaged on disk, only
//! that record fails.

use std::marker::PhantomData;

use pgrx::prelude::*;
use pgrx::spi::{SpiClient, SpiCursor};
use pgrx::varlena::{varatt_is_1b, varatt_is_1b_e, varatt_is_4b_u, varsize_any_exhdr};

use super::limits::Limits;
use super::statements::Statements;
use crate::delivery::batch::Action;
use crate::id_ranges::Span;
use crate::pg::report::SqlResult;
use crate::pg::subtransaction::unless_unreadable;
use crate::pg::text_datum::varlena_bytes;
use crate::record::compact_len;
use crate::shared_state::{Claimable, Micros, QueueEnd};

/// How many rows are read, and locked, at a time: not many more than are claimed.
const CHUNK: i64 = 256;
/// How many bytes a record adds to a request body besides itself.
const WRAPPING: usize = 48;
/// The longest JSON spelling of a one-byte character, as in `\u0041`.
const LONGEST_ESCAPE: usize = 6;
/// How many bytes of a record are read to find its objectID, which comes first.
const HEAD: i32 = 8 << 10;

/// Rows read from a span, and whether more may be left in it.
pub(super) struct ReadRows<'conn> {
    pub(super) rows: Vec<QueuedRow<'conn>>,
    /// The total size of the records among them.
    pub(super) bytes: usize,
    pub(super) exhausted: bool,
}

/// A row of the queue.
pub(super) struct QueuedRow<'conn> {
    pub(super) id: i64,
    pub(super) content: QueuedContent<'conn>,
}

/// The content of a queue row.
pub(super) enum QueuedContent<'conn> {
    Record(QueuedRecord<'conn>),
    /// A version of an object, perhaps not the newest.
    Version(String),
}

/// A text as it is stored in a queue row: plain, compressed, or a TOAST pointer. It is valid until SPI is left.
#[derive(Clone, Copy)]
pub(super) struct StoredText<'conn> {
    place: *mut pg_sys::varlena,
    rows: PhantomData<&'conn ()>,
}

impl StoredText<'_> {
    /// The length of the text, without reading it.
    fn len(self) -> usize {
        // SAFETY: the rows exist until SPI is left, and `place` points to a text in one of them. A compressed or
        // external text has a header with its length.
        unsafe {
            if self.is_whole() {
                varsize_any_exhdr(self.place)
            } else {
                pg_sys::toast_raw_datum_size(self.place.into()).saturating_sub(pg_sys::VARHDRSZ)
            }
        }
    }

    /// Whether the row contains the plain text.
    fn is_whole(self) -> bool {
        // SAFETY: as above. Only the header is read.
        unsafe { varatt_is_4b_u(self.place) || (varatt_is_1b(self.place) && !varatt_is_1b_e(self.place)) }
    }

    /// Passes the text to `work`. In a database whose encoding is not UTF-8, the queue contains only ASCII.
    ///
    /// # Errors
    /// If the text is damaged.
    pub(super) fn read<R>(self, work: impl FnOnce(&str) -> R) -> SqlResult<R> {
        let fetch = |place| {
            // SAFETY: as above. Makes a plain copy in the current context.
            unsafe { pg_sys::pg_detoast_datum_packed(place) }
        };
        self.fetched(fetch, work)
    }

    /// Copies a text that is part of an index, and is therefore short and stored in the row. If it is damaged, so is
    /// the row.
    fn in_row(self) -> String {
        // SAFETY: as above. A compressed text is decompressed into the current context.
        unsafe {
            let whole = pg_sys::pg_detoast_datum_packed(self.place);
            String::from_utf8_lossy(varlena_bytes(whole.into())).into_owned()
        }
    }

    /// The beginning of the text.
    ///
    /// # Errors
    /// If it is damaged.
    pub(super) fn head(self) -> SqlResult<String> {
        let fetch = |place| {
            // SAFETY: as above. Only the chunks that contain the slice are fetched, into the current context.
            unsafe { pg_sys::pg_detoast_datum_slice(place, 0, HEAD) }
        };
        self.fetched(fetch, str::to_owned)
    }

    /// Passes the result of `fetch` to `work` and then frees it, even if `fetch` fails halfway.
    fn fetched<R>(
        self,
        fetch: impl FnOnce(*mut pg_sys::varlena) -> *mut pg_sys::varlena,
        work: impl FnOnce(&str) -> R,
    ) -> SqlResult<R> {
        // SAFETY: the text is in a row that exists until SPI is left, or in a context of our own. That context is
        // deleted after `work`, or with the transaction after any other error.
        unsafe {
            if self.is_whole() {
                return Ok(work(&String::from_utf8_lossy(varlena_bytes(self.place.into()))));
            }
            let scratch = pg_sys::AllocSetContextCreateExtended(
                pg_sys::CurrentMemoryContext,
                c"audit_algolia record".as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_SMALL_MAXSIZE as usize,
            );
            let text = unless_unreadable(|| {
                let before = pg_sys::MemoryContextSwitchTo(scratch);
                let text = fetch(self.place);
                pg_sys::MemoryContextSwitchTo(before);
                text
            });
            let result = text.map(|text| work(&String::from_utf8_lossy(varlena_bytes(text.into()))));
            pg_sys::MemoryContextDelete(scratch);
            result
        }
    }
}

/// A record that is to be sent.
pub(super) struct QueuedRecord<'conn> {
    pub(super) action: Action,
    pub(super) text: StoredText<'conn>,
    /// The length of its text.
    length: usize,
    /// Its size, if its length alone shows that it is too large.
    pub(super) oversize: Option<usize>,
    /// The object that it is a version of.
    pub(super) object: Option<String>,
}

impl<'conn> QueuedRecord<'conn> {
    fn new(action: u8, text: StoredText<'conn>, object: Option<String>, limit: usize) -> QueuedRecord<'conn> {
        let action = if action == b'd' { Action::DeleteObject } else { Action::AddObject };
        let length = text.len();
        // No character takes more bytes in the text than this.
        let oversize = (length > limit.saturating_mul(LONGEST_ESCAPE)).then_some(length);
        QueuedRecord { action, text, length, oversize, object }
    }

    /// The size of the record, if it is too large. The record is never larger than its text.
    pub(super) fn measure(text: &str, limit: usize) -> Option<usize> {
        (text.len() > limit).then(|| compact_len(text)).filter(|size| *size > limit)
    }

    /// How many bytes it adds to a request body, unless it is too large.
    pub(super) fn size(&self) -> usize {
        if self.oversize.is_some() {
            0
        } else {
            self.length + WRAPPING
        }
    }
}

/// Reads rows from a span, but not their records.
pub(super) fn read<'conn>(
    client: &mut SpiClient<'conn>,
    index_id: i32,
    claimable: Claimable,
    statements: &Statements,
    limits: Limits,
) -> spi::Result<ReadRows<'conn>> {
    let statement = match claimable.end {
        QueueEnd::Newest => &statements.newest,
        QueueEnd::Oldest => &statements.oldest,
    };
    let Span { lo, hi } = claimable.span;
    let arguments = [index_id.into(), lo.into(), hi.into(), limits.rows.into()];
    let mut cursor = client.try_open_cursor_mut(statement, &arguments)?;
    let mut rows = Vec::with_capacity(usize::try_from(limits.rows).unwrap_or(0).min(1024));
    let mut bytes = 0;
    loop {
        let wanted = CHUNK.min(limits.rows - rows.len() as i64);
        let got = fetch(&mut cursor, wanted, limits.record_bytes, &mut rows, &mut bytes)?;
        let full = rows.len() as i64 >= limits.rows || bytes >= limits.bytes;
        if full || got < wanted {
            return Ok(ReadRows { rows, bytes, exhausted: got < wanted });
        }
    }
}

/// Reads up to `wanted` more rows. Returns how many there were.
fn fetch(
    cursor: &mut SpiCursor,
    wanted: i64,
    record_bytes: usize,
    rows: &mut Vec<QueuedRow<'_>>,
    bytes: &mut usize,
) -> spi::Result<i64> {
    let found = cursor.fetch(wanted)?.len();
    for [id, action, record, object] in fetched::<4>(found) {
        let content = match (object.text(), record.text()) {
            (Some(object), _) => QueuedContent::Version(object.in_row()),
            (None, Some(text)) => {
                let record = QueuedRecord::new(action.value() as u8, text, None, record_bytes);
                *bytes += record.size();
                QueuedContent::Record(record)
            }
            (None, None) => continue,
        };
        rows.push(QueuedRow { id: id.value() as i64, content });
    }
    Ok(i64::try_from(found).unwrap_or(i64::MAX))
}

/// A value of a row; `None` if it is null.
#[derive(Clone, Copy)]
struct ColumnValue(Option<pg_sys::Datum>);

impl ColumnValue {
    fn value(self) -> usize {
        self.0.map_or(0, pg_sys::Datum::value)
    }

    /// The value of a column of type text.
    fn text<'conn>(self) -> Option<StoredText<'conn>> {
        self.0.map(|datum| StoredText { place: datum.cast_mut_ptr(), rows: PhantomData })
    }
}

/// The rows that the latest query has returned, with `N` columns each. Deforming each tuple once takes a third of the
/// time of pgrx's access by column.
fn fetched<const N: usize>(count: usize) -> impl Iterator<Item = [ColumnValue; N]> {
    // SAFETY: the query has just returned its rows there, if it found any. They exist until SPI is left, whatever is
    // queried next.
    let (tuples, descriptor) = match unsafe { pg_sys::SPI_tuptable.as_ref() } {
        // SAFETY: as above. All rows have the statement's columns.
        Some(fetched) => (unsafe { std::slice::from_raw_parts(fetched.vals, count) }, fetched.tupdesc),
        None => (&[][..], std::ptr::null_mut()),
    };
    tuples.iter().map(move |tuple| {
        let (mut values, mut nulls) = ([pg_sys::Datum::null(); N], [true; N]);
        // SAFETY: the arrays have room for all columns of the statement.
        unsafe { pg_sys::heap_deform_tuple(*tuple, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr()) };
        std::array::from_fn(|place| ColumnValue((!nulls[place]).then_some(values[place])))
    })
}

/// The newest version of an object.
pub(super) struct NewestVersion<'conn> {
    pub(super) id: i64,
    pub(super) record: QueuedRecord<'conn>,
    /// When the oldest waiting version was queued.
    pub(super) since: Micros,
}

/// Finds the newest versions of the claimed objects, under a new snapshot.
pub(super) fn newest_versions<'conn>(
    client: &mut SpiClient<'conn>,
    index_id: i32,
    objects: Vec<String>,
    statements: &Statements,
    limits: Limits,
) -> spi::Result<Vec<NewestVersion<'conn>>> {
    let arguments = [index_id.into(), objects.into()];
    // SPI must regard this as an update: a query that may write gets a new snapshot.
    let found = client.update(&statements.versions, None, &arguments)?.len();
    let mut versions = Vec::with_capacity(found);
    for [object, id, action, text, since] in fetched::<5>(found) {
        let (Some(object), Some(text)) = (object.text(), text.text()) else { continue };
        let object = Some(object.in_row());
        let record = QueuedRecord::new(action.value() as u8, text, object, limits.record_bytes);
        versions.push(NewestVersion { id: id.value() as i64, record, since: since.value() as Micros });
    }
    // Newest first, in case not all of them fit.
    versions.sort_unstable_by_key(|version| std::cmp::Reverse(version.id));
    Ok(versions)
}
