//! Rows of the queue as a claim reads them: records, and versions of objects.

use pgrx::prelude::*;
use pgrx::spi::SpiCursor;

use super::claim::Limits;
use super::statements::Statements;
use crate::delivery::batch::Action;
use crate::ledger::{Claimable, End, Micros};
use crate::record::compact_len;
use crate::regions::Span;

/// Rows read at once: few enough that large records do not pile up in memory past `batch_bytes`.
const CHUNK: i64 = 256;
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

/// What is to be sent.
pub(super) struct Record {
    pub(super) action: Action,
    pub(super) text: String,
    /// Its size, if it is larger than a record may be.
    pub(super) oversize: Option<usize>,
    /// Which object it is a version of.
    pub(super) object: Option<String>,
}

impl Record {
    fn new(action: &str, text: String, object: Option<String>, limit: usize) -> Record {
        let action = if action == "d" { Action::DeleteObject } else { Action::AddObject };
        // A text is never shorter than the record it is, so that hardly any has to be measured.
        let oversize = if text.len() > limit { Some(compact_len(&text)) } else { None };
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
            let got = fetch(&mut cursor, wanted, limits.record_bytes, &mut rows, &mut bytes)?;
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
    rows: &mut Vec<Row>,
    bytes: &mut usize,
) -> spi::Result<i64> {
    let mut got = 0;
    for row in cursor.fetch(wanted)? {
        got += 1;
        let (Some(id), object) = (row.get::<i64>(1)?, row.get::<String>(4)?) else { continue };
        let what = match (object, row.get::<String>(3)?) {
            (Some(object), _) => What::Version(object),
            (None, Some(text)) => {
                *bytes += text.len() + WRAPPING;
                let action: Option<String> = row.get(2)?;
                What::Record(Record::new(&action.unwrap_or_default(), text, None, record_bytes))
            }
            (None, None) => continue,
        };
        rows.push(Row { id, what });
    }
    Ok(got)
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
) -> spi::Result<Vec<Version>> {
    Spi::connect_mut(|client| {
        let mut versions = Vec::with_capacity(objects.len());
        let arguments = [index_id.into(), objects.into()];
        // An update, to SPI: a query that may write gets a snapshot of its own.
        for row in client.update(&statements.versions, None, &arguments)? {
            let (object, id, action, text) =
                (row.get(1)?, row.get(2)?, row.get::<String>(3)?, row.get::<String>(4)?);
            if let (Some(id), Some(action), Some(text)) = (id, action, text) {
                let record = Record::new(&action, text, object, limits.record_bytes);
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
