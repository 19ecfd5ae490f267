//! The two short transactions of a delivery: the claim takes the newest rows, the settlement deletes what has arrived.

use std::ffi::CStr;

use pgrx::prelude::*;
use pgrx::spi::{OwnedPreparedStatement, SpiCursor};

use crate::claims::Claim;
use crate::delivery::batch::{Action, Batch, BatchBuilder};
use crate::ledger::{Claimable, End, Flight};
use crate::pg::process::in_transaction;
use crate::pg::{shmem, xact};
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
}

/// The worker's prepared statements.
pub(super) struct Statements {
    newest: OwnedPreparedStatement,
    oldest: OwnedPreparedStatement,
    settle: OwnedPreparedStatement,
    /// The queue they are for.
    queue: pg_sys::Oid,
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
                queue,
            }))
        })
    }
}

/// A table of the extension; invalid when it is not there.
fn table(name: &CStr) -> pg_sys::Oid {
    // SAFETY: look-ups in the catalogs, inside a transaction.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"audit_algolia".as_ptr(), true);
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    }
}

/// Keeps a table from being dropped for the rest of the transaction; `false` when it is no more. One that was made
/// anew hands out the same ids for other rows. No transaction of a worker touches two tables: whoever drops the
/// extension locks them in an order of their own.
fn lock(table: pg_sys::Oid) -> bool {
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

/// Rows read off a span, and whether more may be left in it.
struct Read {
    rows: Vec<(i64, String)>,
    exhausted: bool,
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
    in_transaction(|| {
        if !lock(statements.queue) {
            return Ok(Catch::Gone);
        }
        let read = read(index_id, claimable, statements, limits)?;
        // SAFETY: reads the clock.
        let now = unsafe { pg_sys::GetCurrentTimestamp() };
        let Some(mut ledger) = shmem::ledger() else {
            return Ok(Catch::Nothing);
        };
        let mut taken: Vec<(i64, String)> = Vec::with_capacity(read.rows.len());
        let (mut bytes, mut last, mut cut, mut crowded) = (0, None, !read.exhausted, false);
        for (id, record) in read.rows {
            let size = record.len() + WRAPPING;
            if !taken.is_empty() && bytes + size > limits.bytes {
                cut = true;
                break;
            }
            match ledger.claim(slot, id) {
                Claim::Taken => {
                    bytes += size;
                    last = Some(id);
                    taken.push((id, record));
                }
                Claim::HeldBy(_) => last = Some(id),
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
            (Some((lo, _)), Some((hi, _))) => Some(Flight {
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
        let Some(flight) = place else {
            return Ok(if crowded { Catch::Crowded } else { Catch::Nothing });
        };
        let mut builder = BatchBuilder::new(taken.len(), usize::MAX);
        let mut ids = Vec::with_capacity(taken.len());
        for (id, record) in taken {
            let _taken = builder.push(Action::AddObject, &record);
            ids.push(id);
        }
        Ok(Catch::Batch(Claimed { flight, ids, batch: builder.finish() }))
    })
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
            let got = fetch(&mut cursor, wanted, &mut rows, &mut bytes)?;
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
    rows: &mut Vec<(i64, String)>,
    bytes: &mut usize,
) -> spi::Result<i64> {
    let mut got = 0;
    for row in cursor.fetch(wanted)? {
        got += 1;
        if let (Some(id), Some(record)) = (row.get::<i64>(1)?, row.get::<String>(3)?) {
            *bytes += record.len() + WRAPPING;
            rows.push((id, record));
        }
    }
    Ok(got)
}

/// Deletes delivered rows, in one transaction for all the batches at hand; `false` when the queue is no more.
pub(super) fn settle(statements: &Statements, delivered: &[(i32, Vec<i64>)]) -> spi::Result<bool> {
    in_transaction(|| {
        if !lock(statements.queue) {
            return Ok(false);
        }
        Spi::connect_mut(|client| {
            for (index_id, ids) in delivered {
                let deleted =
                    client.update(&statements.settle, None, &[(*index_id).into(), ids.clone().into()])?;
                xact::note_removed(*index_id, deleted.len() as i64);
            }
            Ok(true)
        })
    })
}
