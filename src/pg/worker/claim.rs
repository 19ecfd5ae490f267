//! The short transaction before a delivery: the claim takes the newest rows and makes a batch of them.

use std::collections::{HashMap, HashSet};

use pgrx::prelude::*;

use super::rows::{newest_versions, read, Read, Record, Row, Texts, Version, What};
use super::statements::{lock, Statements};
use crate::claims::Claim;
use crate::delivery::batch::{Batch, BatchBuilder};
use crate::delivery::culprit::object_id;
use crate::ledger::{object_hash, Claimable, Durable, End, Flight, Ledger, Micros};
use crate::pg::process::in_transaction;
use crate::pg::shmem::{self, Locked};
use crate::pg::{failpoint, guc};
use crate::regions::Span;

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
    /// How far the log must be on disk before the batch may leave.
    durable: Durable,
}

impl Claimed {
    /// Sees to it that no crash can take back a row of the batch: writers who do not wait for the disk may have queued
    /// some. Where everybody waits, there is nothing left to do. To be called after the claiming transaction.
    pub(super) fn make_durable(&self) {
        // SAFETY: waits for the log, outside of a transaction, up to the end of a commit that it holds. Our own, of the
        // claim, comes after those of all rows that it has seen.
        unsafe {
            pg_sys::XLogFlush(match self.durable {
                Durable::Until(place) => place,
                Durable::All => pg_sys::XactLastCommitEnd,
            });
        }
    }
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

/// A claim under way: what this worker has entered into the ledger for it so far.
struct Taking {
    slot: usize,
    lane: usize,
    claimable: Claimable,
    limits: Limits,
    records: Vec<(i64, Record)>,
    texts: Texts,
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
        let mut texts = Texts::default();
        let Read { rows, exhausted } = read(index_id, claimable, statements, limits, &mut texts)?;
        let mut taking = Taking {
            slot,
            lane,
            claimable,
            limits,
            records: Vec::with_capacity(rows.len()),
            texts,
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
            let objects = taking.objects.keys().cloned().collect();
            let versions = match newest_versions(index_id, objects, statements, limits, &mut taking.texts) {
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
        let durable = ledger.durable();
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
        let mut builder = BatchBuilder::with_capacity(self.records.len(), self.bytes);
        let mut ids = Vec::with_capacity(self.records.len());
        let mut objects = Vec::with_capacity(self.records.len());
        let mut oversized = Vec::new();
        for (id, record) in self.records {
            let text = self.texts.of(&record);
            match record.oversize {
                Some(bytes) => {
                    let object = record.object;
                    oversized.push(Oversized { id, object_id: object_id(text), object, bytes });
                }
                None => {
                    let _taken = builder.push(record.action, text);
                    ids.push(id);
                    objects.push(record.object);
                }
            }
        }
        Catch::Batch(Claimed { flight, ids, objects, batch: builder.finish(), oversized, durable })
    }
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
