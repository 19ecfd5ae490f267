//! The short transaction before a delivery: the claim takes the newest rows and makes a batch of them.

use std::collections::{HashMap, HashSet};
use std::ffi::CStr;

use pgrx::prelude::*;
use pgrx::spi::{OwnedPreparedStatement, SpiCursor};

use crate::claims::Claim;
use crate::delivery::batch::{Action, Batch, BatchBuilder};
use crate::delivery::culprit::object_id;
use crate::ledger::{object_hash, Claimable, End, Flight, Ledger, Micros};
use crate::pg::process::in_transaction;
use crate::pg::shmem::{self, Locked};
use crate::pg::{failpoint, guc};
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
    /// Of each, which object it is a version of.
    pub(super) objects: Vec<Option<String>>,
    pub(super) batch: Batch,
    /// Claimed with the others, and not part of the batch.
    pub(super) oversized: Vec<Oversized>,
}

/// A record that is too large to be sent.
pub(super) struct Oversized {
    pub(super) id: i64,
    pub(super) object_id: Option<String>,
    /// Which object it is a version of.
    pub(super) object: Option<String>,
    /// As Algolia measures it.
    pub(super) bytes: usize,
}

/// The worker's prepared statements.
pub(super) struct Statements {
    newest: OwnedPreparedStatement,
    oldest: OwnedPreparedStatement,
    versions: OwnedPreparedStatement,
    pub(super) settle_versions: OwnedPreparedStatement,
    pub(super) supersede: OwnedPreparedStatement,
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
            let settled = pgrx::oids_of![i32, Vec<String>, Vec<i64>];
            Ok(Some(Statements {
                newest: client.prepare_mut(include_str!("../../../sql/claim_newest.sql"), &claim)?.keep(),
                oldest: client.prepare_mut(include_str!("../../../sql/claim_oldest.sql"), &claim)?.keep(),
                versions: client
                    .prepare_mut(
                        include_str!("../../../sql/newest_versions.sql"),
                        &pgrx::oids_of![i32, Vec<String>],
                    )?
                    .keep(),
                settle_versions: client
                    .prepare_mut(include_str!("../../../sql/settle_versions.sql"), &settled)?
                    .keep(),
                supersede: client
                    .prepare_mut(include_str!("../../../sql/supersede_dead.sql"), &settled)?
                    .keep(),
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
pub(super) fn table(name: &CStr) -> pg_sys::Oid {
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
    what: What,
}

/// What a row of the queue holds.
enum What {
    Record(Record),
    /// A version of an object, which may not be the newest.
    Version(String),
}

/// What is to be sent.
struct Record {
    action: Action,
    text: String,
    /// Its size, if it is larger than a record may be.
    oversize: Option<usize>,
    /// Which object it is a version of.
    object: Option<String>,
}

impl Record {
    fn new(action: &str, text: String, object: Option<String>, limit: usize) -> Record {
        let action = if action == "d" { Action::DeleteObject } else { Action::AddObject };
        // A text is never shorter than the record it is, so that hardly any has to be measured.
        let oversize = if text.len() > limit { Some(compact_len(&text)) } else { None };
        Record { action, text, oversize: oversize.filter(|size| *size > limit), object }
    }

    /// What it adds to a request's body.
    fn size(&self) -> usize {
        if self.oversize.is_some() {
            0
        } else {
            self.text.len() + WRAPPING
        }
    }
}

/// A claim under way: what this worker has entered into the ledger for it so far.
struct Taking {
    slot: usize,
    lane: usize,
    index_id: i32,
    claimable: Claimable,
    limits: Limits,
    records: Vec<(i64, Record)>,
    /// The objects claimed, and of each a row that has led to it.
    objects: HashMap<String, i64>,
    hashes: HashSet<i64>,
    bytes: usize,
    /// The last row dealt with.
    last: Option<i64>,
    /// Rows may be left in the span.
    cut: bool,
    crowded: bool,
}

/// Claims rows of the span the ledger has handed out. The claim is in the ledger before the claiming transaction
/// ends, so that no other worker can lock the rows before it could know that they are taken; and each row is
/// checked against the ledger after it was locked, for it may have been taken before.
///
/// Of a version of an object it is the object that is claimed. Which version is the newest is read only then: until this
/// batch has landed nobody else delivers or deletes one.
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
        let Read { rows, exhausted } = read(index_id, claimable, statements, limits)?;
        let mut taking = Taking {
            slot,
            lane,
            index_id,
            claimable,
            limits,
            records: Vec::with_capacity(rows.len()),
            objects: HashMap::new(),
            hashes: HashSet::new(),
            bytes: 0,
            last: None,
            cut: !exhausted,
            crowded: false,
        };
        let Some(mut ledger) = shmem::ledger() else {
            return Ok(Catch::Nothing);
        };
        if ledger.lane(lane).is_none_or(|lane| lane.paused) {
            // Since the span was handed out: rows committed after the pause may be among these.
            return Ok(Catch::Nothing);
        }
        taking.take(rows, &mut ledger);
        if !taking.objects.is_empty() {
            drop(ledger);
            let versions = match newest_versions(&taking, statements) {
                Ok(versions) => versions,
                Err(error) => {
                    taking.give_up();
                    return Err(error);
                }
            };
            match shmem::ledger() {
                Some(locked) => ledger = locked,
                None => return Ok(Catch::Nothing),
            }
            taking.take_versions(versions, &mut ledger);
        }
        Ok(taking.finish(ledger))
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

impl Taking {
    /// Claims rows, and the objects that rows are versions of.
    fn take(&mut self, rows: Vec<Row>, ledger: &mut Ledger) {
        for Row { id, what } in rows {
            let claim = match &what {
                What::Record(record) => {
                    let size = record.size();
                    if self.bytes > 0 && self.bytes + size > self.limits.bytes {
                        self.cut = true;
                        break;
                    }
                    let claim = ledger.claim(self.slot, id);
                    if claim == Claim::Taken {
                        self.bytes += size;
                    }
                    claim
                }
                What::Version(object) => {
                    let hash = object_hash(object);
                    match self.hashes.contains(&hash) {
                        true => Claim::Taken,
                        false => ledger.claim_object(self.slot, self.lane, hash, id),
                    }
                }
            };
            if claim == Claim::Full {
                self.cut = true;
                self.crowded = true;
                break;
            }
            self.last = Some(id);
            match (claim, what) {
                (Claim::Taken, What::Record(record)) => self.records.push((id, record)),
                (Claim::Taken, What::Version(object)) => {
                    self.hashes.insert(object_hash(&object));
                    self.objects.entry(object).or_insert(id);
                }
                _ => (),
            }
        }
    }

    /// Takes the newest versions of the objects claimed, as many as there is room for, and gives up the other objects.
    fn take_versions(&mut self, versions: Vec<Version>, ledger: &mut Ledger) {
        let (now, quarantine) = (now(), guc::quarantine());
        let mut kept = HashSet::new();
        let mut free = false;
        for Version { id, record, since } in versions {
            let Some(object) = &record.object else { continue };
            let hash = object_hash(object);
            if ledger.is_on_probation(self.slot, id) {
                continue;
            }
            if let Some(ends_at) = ledger.held_since_start(since, quarantine, now) {
                ledger.hold_claimed(self.slot, self.lane, (hash, id), ends_at);
                kept.insert(hash);
                continue;
            }
            let size = record.size();
            if self.bytes > 0 && self.bytes + size > self.limits.bytes {
                if let Some(id) = self.objects.get(object) {
                    ledger.postpone(self.slot, self.lane, *id);
                }
                continue;
            }
            self.bytes += size;
            kept.insert(hash);
            self.records.push((id, record));
        }
        for hash in self.hashes.iter().filter(|hash| !kept.contains(hash)) {
            ledger.release_object(self.slot, self.lane, *hash);
            free = true;
        }
        if free {
            // Somebody may have been kept from an object that is free again without a flight's landing, as what has been
            // postponed for want of room is.
            ledger.release_objects(self.slot, self.lane, []);
        }
    }

    /// Ends all claims after an error.
    fn give_up(&self) {
        if let Some(mut ledger) = shmem::ledger() {
            ledger.unclaim(self.slot, self.records.iter().map(|(id, _)| *id));
            ledger.release_objects(self.slot, self.lane, self.hashes.iter().copied());
        }
    }

    /// Enters the flight and makes the batch.
    fn finish(mut self, mut ledger: Locked<Ledger>) -> Catch {
        let rest = self.cut.then(|| rest(self.claimable, self.last));
        // Within a request the newest comes last.
        self.records.sort_unstable_by_key(|(id, _)| *id);
        let flight = match (self.records.first(), self.records.last()) {
            (Some((lo, _)), Some((hi, _))) => Some(Flight {
                rows: self.records.len() as i64,
                bytes: self.bytes as i64,
                lane: self.lane as u32,
                fresh: self.claimable.fresh,
                span: Span { lo: *lo, hi: *hi },
                started_at: now(),
            }),
            _ => None,
        };
        let place = ledger.claimed(self.slot, rest, flight);
        if place.is_none() && !self.records.is_empty() {
            // The lane has been closed meanwhile.
            ledger.unclaim(self.slot, self.records.iter().map(|(id, _)| *id));
            ledger.release_objects(self.slot, self.lane, self.hashes.iter().copied());
        }
        drop(ledger);
        failpoint::reach("in claim");
        let Some(flight) = place else {
            return if self.crowded { Catch::Crowded } else { Catch::Nothing };
        };
        let mut builder = BatchBuilder::new(self.records.len(), usize::MAX);
        let mut ids = Vec::with_capacity(self.records.len());
        let mut objects = Vec::new();
        let mut oversized = Vec::new();
        for (id, Record { action, text, oversize, object }) in self.records {
            match oversize {
                Some(bytes) => oversized.push(Oversized { id, object_id: object_id(&text), object, bytes }),
                None => {
                    let _taken = builder.push(action, &text);
                    ids.push(id);
                    objects.push(object);
                }
            }
        }
        Catch::Batch(Claimed { flight, ids, objects, batch: builder.finish(), oversized })
    }
}

/// The newest version of an object.
struct Version {
    id: i64,
    record: Record,
    /// When the oldest version that waits was queued.
    since: Micros,
}

/// Reads the newest versions of the objects claimed, under a snapshot taken now.
fn newest_versions(taking: &Taking, statements: &Statements) -> spi::Result<Vec<Version>> {
    let objects: Vec<String> = taking.objects.keys().cloned().collect();
    Spi::connect_mut(|client| {
        let mut versions = Vec::with_capacity(objects.len());
        let arguments = [taking.index_id.into(), objects.into()];
        // An update, to SPI: a query that may write gets a snapshot of its own.
        for row in client.update(&statements.versions, None, &arguments)? {
            let (object, id, action, text) =
                (row.get(1)?, row.get(2)?, row.get::<String>(3)?, row.get::<String>(4)?);
            if let (Some(id), Some(action), Some(text)) = (id, action, text) {
                let record = Record::new(&action, text, object, taking.limits.record_bytes);
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

fn now() -> Micros {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
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
