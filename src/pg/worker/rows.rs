//! Rows of the queue as a claim reads them: records, and versions of objects.

use std::ops::Range;

use pgrx::prelude::*;
use pgrx::spi::SpiCursor;

use super::claim::Limits;
use super::statements::Statements;
use crate::delivery::batch::Action;
use crate::ledger::{Claimable, End, Micros};
use crate::pg::capture::varlena_bytes;
use crate::record::compact_len;
use crate::regions::Span;

/// Rows read at once: few enough that large records do not pile up in memory past `batch_bytes`.
const CHUNK: i64 = 256;
/// Columns of the claims' statements: id, action, record, object.
const COLUMNS: usize = 4;
/// What a record costs in a request body besides itself.
const WRAPPING: usize = 48;

/// Rows read off a span, and whether more may be left in it.
pub(super) struct Read {
    pub(super) rows: Vec<Row>,
    pub(super) exhausted: bool,
}

pub(super) struct Row {
    pub(super) id: i64,
    pub(super) what: What,
}

/// What a row of the queue holds.
pub(super) enum What {
    Record(Record),
    /// A version of an object, which may not be the newest.
    Version(String),
}

/// The texts of a claim's records, one behind the other: an allocation for each would cost a tenth of the claim.
#[derive(Default)]
pub(super) struct Texts(String);

impl Texts {
    /// What the queue holds is ASCII wherever the database's encoding is not UTF-8.
    fn keep(&mut self, text: &[u8]) -> Range<usize> {
        let start = self.0.len();
        match std::str::from_utf8(text) {
            Ok(text) => self.0.push_str(text),
            Err(_) => self.0.push_str(&String::from_utf8_lossy(text)),
        }
        start..self.0.len()
    }

    pub(super) fn of(&self, record: &Record) -> &str {
        self.0.get(record.text.clone()).unwrap_or_default()
    }
}

/// What is to be sent.
pub(super) struct Record {
    pub(super) action: Action,
    /// Where its text is.
    text: Range<usize>,
    /// Its size, if it is larger than a record may be.
    pub(super) oversize: Option<usize>,
    /// Which object it is a version of.
    pub(super) object: Option<String>,
}

impl Record {
    fn new(action: u8, text: &[u8], object: Option<String>, limit: usize, texts: &mut Texts) -> Record {
        let text = texts.keep(text);
        let action = if action == b'd' { Action::DeleteObject } else { Action::AddObject };
        // A text is never shorter than the record it is, so that hardly any has to be measured.
        let oversize = if text.len() > limit { texts.0.get(text.clone()).map(compact_len) } else { None };
        Record { action, text, oversize: oversize.filter(|size| *size > limit), object }
    }

    /// What it adds to a request's body.
    pub(super) fn size(&self) -> usize {
        if self.oversize.is_some() {
            0
        } else {
            self.text.len() + WRAPPING
        }
    }
}

pub(super) fn read(
    index_id: i32,
    claimable: Claimable,
    statements: &Statements,
    limits: Limits,
    texts: &mut Texts,
) -> spi::Result<Read> {
    let statement = match claimable.end {
        End::Newest => &statements.newest,
        End::Oldest => &statements.oldest,
    };
    Spi::connect_mut(|client| {
        let Span { lo, hi } = claimable.span;
        let arguments = [index_id.into(), lo.into(), hi.into(), limits.rows.into()];
        let mut cursor = client.try_open_cursor_mut(statement, &arguments)?;
        let mut rows = Vec::with_capacity(usize::try_from(limits.rows).unwrap_or(0).min(1024));
        let mut bytes = 0;
        loop {
            let wanted = CHUNK.min(limits.rows - rows.len() as i64);
            let got = fetch(&mut cursor, wanted, limits.record_bytes, texts, &mut rows, &mut bytes)?;
            let full = rows.len() as i64 >= limits.rows || bytes >= limits.bytes;
            if full || got < wanted {
                return Ok(Read { rows, exhausted: got < wanted });
            }
        }
    })
}

/// Reads up to `wanted` more rows; returns how many there were.
fn fetch(
    cursor: &mut SpiCursor,
    wanted: i64,
    record_bytes: usize,
    texts: &mut Texts,
    rows: &mut Vec<Row>,
    bytes: &mut usize,
) -> spi::Result<i64> {
    let table = cursor.fetch(wanted)?;
    // SAFETY: the fetch has just left its rows there, if it found any, all of them with the statement's columns; they
    // live until SPI is left. One look at each row costs a third of asking pgrx for its values one by one.
    let (tuples, descriptor) = match unsafe { pg_sys::SPI_tuptable.as_ref() } {
        // SAFETY: as above.
        Some(fetched) => (unsafe { std::slice::from_raw_parts(fetched.vals, table.len()) }, fetched.tupdesc),
        None => return Ok(0),
    };
    for tuple in tuples {
        let (mut values, mut nulls) = ([pg_sys::Datum::null(); COLUMNS], [true; COLUMNS]);
        // SAFETY: there is room for as many values as the statement has columns: the id, a "char" and two texts.
        let (id, action, record, object) = unsafe {
            pg_sys::heap_deform_tuple(*tuple, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            let [id, action, record, object] = values;
            let text = |place: usize, datum| (!nulls[place]).then(|| varlena_bytes(datum));
            (id.value() as i64, action.value() as u8, text(2, record), text(3, object))
        };
        let what = match (object, record) {
            (Some(object), _) => What::Version(String::from_utf8_lossy(object).into_owned()),
            (None, Some(record)) => {
                *bytes += record.len() + WRAPPING;
                What::Record(Record::new(action, record, None, record_bytes, texts))
            }
            (None, None) => continue,
        };
        rows.push(Row { id, what });
    }
    Ok(i64::try_from(tuples.len()).unwrap_or(i64::MAX))
}

/// The newest version of an object.
pub(super) struct Version {
    pub(super) id: i64,
    pub(super) record: Record,
    /// When the oldest version that waits was queued.
    pub(super) since: Micros,
}

/// Reads the newest versions of the objects claimed, under a snapshot taken now.
pub(super) fn newest_versions(
    index_id: i32,
    objects: Vec<String>,
    statements: &Statements,
    limits: Limits,
    texts: &mut Texts,
) -> spi::Result<Vec<Version>> {
    Spi::connect_mut(|client| {
        let mut versions = Vec::with_capacity(objects.len());
        let arguments = [index_id.into(), objects.into()];
        // An update, to SPI: a query that may write gets a snapshot of its own.
        for row in client.update(&statements.versions, None, &arguments)? {
            let (object, id, action, text) =
                (row.get(1)?, row.get(2)?, row.get::<i8>(3)?, row.get::<String>(4)?);
            if let (Some(id), Some(action), Some(text)) = (id, action, text) {
                let record = Record::new(action as u8, text.as_bytes(), object, limits.record_bytes, texts);
                let since: Option<pgrx::datum::TimestampWithTimeZone> = row.get(5)?;
                let since = since.map_or(0, pg_sys::TimestampTz::from);
                versions.push(Version { id, record, since });
            }
        }
        // The newest first, should there not be room for all.
        versions.sort_unstable_by_key(|version| std::cmp::Reverse(version.id));
        Ok(versions)
    })
}
