//! The short transaction before a delivery: the claim takes the newest rows and makes a batch of them.

use std::ffi::CStr;

use pgrx::prelude::*;
use pgrx::spi::{OwnedPreparedStatement, SpiCursor};

use crate::claims::Claim;
use crate::delivery::batch::{Action, Batch, BatchBuilder};
use crate::delivery::culprit::object_id;
use crate::ledger::{Claimable, End, Flight};
use crate::pg::process::in_transaction;
use crate::pg::{failpoint, shmem};
use crate::record::compact_len;
use crate::regions::Span;

/// Rows read at once: few enough that large records do not pile up in memory past `batch_bytes`.
const CHUNK: i64 = 256;
/// What a record costs in a request body besides itself.
const WRAPPING: usize = 48;

/// What one request may carry.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) rows: i64,
    pub(super) bytes: usize,
    /// The largest record.
    pub(super) record_bytes: usize,
}

/// What came of a claim.
pub(super) enum Catch {
    Batch(Claimed),
    /// Nothing of the span was left to claim.
    Nothing,
    /// All workers together hold as many rows as the ledger can keep track of.
    Crowded,
    /// The queue is no more: the extension has been dropped.
    Gone,
}

/// A claimed batch. Its rows belong to this worker until they are settled or released.
pub(super) struct Claimed {
    /// Its place among the worker's flights.
    pub(super) flight: usize,
    pub(super) ids: Vec<i64>,
    pub(super) batch: Batch,
    /// Claimed with the others, and not part of the batch.
    pub(super) oversized: Vec<Oversized>,
}

/// A record that is too large to be sent.
pub(super) struct Oversized {
    pub(super) id: i64,
    pub(super) object_id: Option<String>,
    /// As Algolia measures it.
    pub(super) bytes: usize,
}

/// The worker's prepared statements.
pub(super) struct Statements {
    newest: OwnedPreparedStatement,
    oldest: OwnedPreparedStatement,
    pub(super) settle: OwnedPreparedStatement,
    pub(super) bury: OwnedPreparedStatement,
    /// The tables they are for.
    pub(super) queue: pg_sys::Oid,
    pub(super) dead_letters: pg_sys::Oid,
}

impl Statements {
    /// Prepares the statements; `None`: the extension has been dropped.
    pub(super) fn prepare() -> spi::Result<Option<Statements>> {
        in_transaction(Self::prepare_inside)
    }

    fn prepare_inside() -> spi::Result<Option<Statements>> {
        let queue = table(c"queue");
        if !lock(queue) {
            return Ok(None);
        }
        Spi::connect_mut(|client| {
            let claim = pgrx::oids_of![i32, i64, i64, i64];
            Ok(Some(Statements {
                newest: client.prepare_mut(include_str!("../../../sql/claim_newest.sql"), &claim)?.keep(),
                oldest: client.prepare_mut(include_str!("../../../sql/claim_oldest.sql"), &claim)?.keep(),
                settle: client
                    .prepare_mut(include_str!("../../../sql/settle.sql"), &pgrx::oids_of![i32, Vec<i64>])?
                    .keep(),
                bury: client
                    .prepare_mut(
                        include_str!("../../../sql/bury.sql"),
                        &pgrx::oids_of![i32, Vec<i64>, Vec<String>, Vec<i32>, Vec<i32>, Vec<String>],
                    )?
                    .keep(),
                queue,
                dead_letters: table(c"dead_letter"),
            }))
        })
    }
}

/// A table of the extension; invalid when it is not there.
pub(in crate::pg) fn table(name: &CStr) -> pg_sys::Oid {
    // SAFETY: look-ups in the catalogs, inside a transaction.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"audit_algolia".as_ptr(), true);
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    }
}

/// Keeps a table from being dropped for the rest of the transaction; `false` when it is no more. One that was made
/// anew hands out the same ids for other rows. No transaction of a worker waits for a second table: whoever drops the
/// extension locks them in an order of their own.
pub(super) fn lock(table: pg_sys::Oid) -> bool {
    if table == pg_sys::InvalidOid {
        return false;
    }
    // SAFETY: waits for whoever is dropping the table, then looks whether it is still there.
    unsafe {
        let opened = pg_sys::try_relation_open(table, pg_sys::RowExclusiveLock as i32);
        if opened.is_null() {
            return false;
        }
        pg_sys::relation_close(opened, pg_sys::NoLock as i32);
    }
    true
}

/// The indices of the database: id, name and whether delivery is paused. `None`: the extension has been dropped.
pub(super) fn indices() -> spi::Result<Option<Vec<(i32, String, bool)>>> {
    in_transaction(|| {
        if !lock(table(c"index")) {
            return Ok(None);
        }
        Spi::connect(|client| {
            let mut rows = Vec::new();
            for row in client.select(include_str!("../../../sql/indices.sql"), None, &[])? {
                if let (Some(id), Some(name)) = (row.get(1)?, row.get::<Vec<u8>>(4)?) {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    rows.push((id, name, row.get(3)?.unwrap_or_default()));
                }
            }
            Ok(Some(rows))
        })
    })
}

/// Whether the database has history to send.
pub(super) fn has_backfills() -> spi::Result<bool> {
    in_transaction(|| {
        if !lock(table(c"backfill")) {
            return Ok(false);
        }
        Spi::connect(|client| {
            let rows = client.select(include_str!("../../../sql/has_backfills.sql"), Some(1), &[])?;
            Ok(rows.first().get_one()?.unwrap_or_default())
        })
    })
}

/// The version of the extension's SQL objects; `None`: it has been dropped.
pub(super) fn extension_version() -> spi::Result<Option<String>> {
    in_transaction(|| {
        Spi::connect(|client| {
            let rows = client.select(include_str!("../../../sql/extension_version.sql"), Some(1), &[])?;
            if rows.is_empty() {
                Ok(None)
            } else {
                rows.first().get_one()
            }
        })
    })
}

/// Rows read off a span, and whether more may be left in it.
struct Read {
    rows: Vec<Row>,
    exhausted: bool,
}

struct Row {
    id: i64,
    record: String,
    /// Its size, if it is larger than a record may be.
    oversize: Option<usize>,
}

/// Claims rows of the span the ledger has handed out. The claim is in the ledger before the claiming transaction
/// ends, so that no other worker can lock the rows before it could know that they are taken; and each row is
/// checked against the ledger after it was locked, for it may have been taken before.
pub(super) fn claim(
    slot: usize,
    lane: usize,
    index_id: i32,
    claimable: Claimable,
    statements: &Statements,
    limits: Limits,
) -> spi::Result<Catch> {
    failpoint::reach("before claim");
    let Some(limits) = bounded(slot, claimable, limits) else { return Ok(Catch::Crowded) };
    let caught = in_transaction(|| {
        if !lock(statements.queue) {
            return Ok(Catch::Gone);
        }
        let read = read(index_id, claimable, statements, limits)?;
        // SAFETY: reads the clock.
        let now = unsafe { pg_sys::GetCurrentTimestamp() };
        let Some(mut ledger) = shmem::ledger() else {
            return Ok(Catch::Nothing);
        };
        let mut taken: Vec<Row> = Vec::with_capacity(read.rows.len());
        let (mut bytes, mut last, mut cut, mut crowded) = (0, None, !read.exhausted, false);
        for row in read.rows {
            let size = if row.oversize.is_some() { 0 } else { row.record.len() + WRAPPING };
            if bytes > 0 && bytes + size > limits.bytes {
                cut = true;
                break;
            }
            match ledger.claim(slot, row.id) {
                Claim::Taken => {
                    bytes += size;
                    last = Some(row.id);
                    taken.push(row);
                }
                Claim::HeldBy(_) => last = Some(row.id),
                Claim::Full => {
                    cut = true;
                    crowded = true;
                    break;
                }
            }
        }
        let rest = cut.then(|| rest(claimable, last));
        if claimable.end == End::Newest {
            // Within a request the newest version of an object comes last, and so wins.
            taken.reverse();
        }
        let flight = match (taken.first(), taken.last()) {
            (Some(Row { id: lo, .. }), Some(Row { id: hi, .. })) => Some(Flight {
                rows: taken.len() as i64,
                bytes: bytes as i64,
                lane: lane as u32,
                fresh: claimable.fresh,
                span: Span { lo: *lo, hi: *hi },
                started_at: now,
            }),
            _ => None,
        };
        let place = ledger.claimed(slot, rest, flight);
        drop(ledger);
        failpoint::reach("in claim");
        let Some(flight) = place else {
            return Ok(if crowded { Catch::Crowded } else { Catch::Nothing });
        };
        let mut builder = BatchBuilder::new(taken.len(), usize::MAX);
        let mut ids = Vec::with_capacity(taken.len());
        let mut oversized = Vec::new();
        for Row { id, record, oversize } in taken {
            match oversize {
                Some(bytes) => oversized.push(Oversized { id, object_id: object_id(&record), bytes }),
                None => {
                    let _taken = builder.push(Action::AddObject, &record);
                    ids.push(id);
                }
            }
        }
        Ok(Catch::Batch(Claimed { flight, ids, batch: builder.finish(), oversized }))
    });
    failpoint::reach("after claim");
    caught
}

/// Rows that could not be claimed are not to be read and locked. `None`: not a single one could; the span is given back.
fn bounded(slot: usize, claimable: Claimable, limits: Limits) -> Option<Limits> {
    let mut ledger = shmem::ledger()?;
    let left = ledger.claims_left();
    if left == 0 {
        ledger.claimed(slot, Some(claimable.span), None);
        return None;
    }
    Some(Limits { rows: limits.rows.min(i64::try_from(left).unwrap_or(i64::MAX)), ..limits })
}

/// What of the span lies beyond the last row dealt with.
fn rest(claimable: Claimable, last: Option<i64>) -> Span {
    let Span { lo, hi } = claimable.span;
    match (claimable.end, last) {
        (_, None) => Span { lo, hi },
        (End::Newest, Some(last)) => Span { lo, hi: last.saturating_sub(1) },
        (End::Oldest, Some(last)) => Span { lo: last.saturating_add(1), hi },
    }
}

fn read(index_id: i32, claimable: Claimable, statements: &Statements, limits: Limits) -> spi::Result<Read> {
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
        if let (Some(id), Some(record)) = (row.get::<i64>(1)?, row.get::<String>(3)?) {
            *bytes += record.len() + WRAPPING;
            // A text is never shorter than the record it is, so that hardly any has to be measured.
            let oversize = if record.len() > record_bytes { Some(compact_len(&record)) } else { None };
            rows.push(Row { id, record, oversize: oversize.filter(|size| *size > record_bytes) });
        }
    }
    Ok(got)
}
