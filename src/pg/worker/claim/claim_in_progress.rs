//! One claim, step by step: it claims rows and objects, finds the newest version of each object, and then has the
//! records copied into the batch (`fill`).

use std::collections::{HashMap, HashSet};

use pgrx::prelude::*;
use pgrx::spi::SpiClient;

use super::claimed::{ClaimOrder, ClaimOutcome};
use super::entries::ClaimEntries;
use super::fill::fill;
use crate::claims::Claim;
use crate::flight_recorder::FlightRecord;
use crate::id_ranges::Span;
use crate::pg::clock::now;
use crate::pg::shmem::{self, Locked};
use crate::pg::worker::limits::Limits;
use crate::pg::worker::rows::{
    newest_versions, read, NewestVersion, QueuedContent, QueuedRecord, QueuedRow, ReadRows,
};
use crate::pg::worker::statements::Statements;
use crate::pg::{failpoint, flight_recorder, guc};
use crate::shared_state::{object_hash, Claimable, Flight, LaneKey, SharedState};

/// A claim in progress.
struct ClaimInProgress<'a, 'conn> {
    order: &'a ClaimOrder,
    /// What was read, which may be more than was ordered.
    claimable: Claimable,
    entered: &'a mut ClaimEntries,
    records: Vec<(i64, QueuedRecord<'conn>)>,
    /// The claimed objects, each with a row that led to it.
    objects: HashMap<String, i64>,
    /// The last row that was processed.
    last: Option<i64>,
    /// Rows may be left in the span.
    cut: bool,
    /// The claim table is full.
    is_table_full: bool,
    /// Some rows held back are versions of objects that are held.
    met_held_object: bool,
    /// The highest suspect whose object is held. It stays a suspect and is tried again.
    put_back: Option<i64>,
}

/// Claims rows within a transaction; `None` if memory is lacking for the batch.
pub(super) fn take(
    client: &mut SpiClient<'_>,
    order: &ClaimOrder,
    statements: &Statements,
    entered: &mut ClaimEntries,
) -> spi::Result<Option<ClaimOutcome>> {
    let mut claimable = order.claimable;
    let ReadRows { mut rows, mut bytes, mut exhausted } =
        read(client, order.index_id, claimable, statements, order.limits)?;
    // A batch takes all fresh rows, wherever they are, and is filled from the backlog, so that no second batch is needed.
    while exhausted && (rows.len() as i64) < order.limits.rows && bytes < order.limits.bytes {
        let Some(span) = shmem::shared_state().and_then(|mut locked| locked.next_to_fill(order.slot)) else {
            break;
        };
        let limits = Limits {
            rows: order.limits.rows - rows.len() as i64,
            bytes: order.limits.bytes - bytes,
            ..order.limits
        };
        let more = read(client, order.index_id, Claimable { span, ..claimable }, statements, limits)?;
        claimable.span = claimable.span.joined(span);
        rows.extend(more.rows);
        (bytes, exhausted) = (bytes + more.bytes, more.exhausted);
    }
    let records = Vec::with_capacity(rows.len());
    let cut = !exhausted;
    let mut claim = ClaimInProgress {
        order,
        claimable,
        entered,
        records,
        objects: HashMap::new(),
        last: None,
        cut,
        is_table_full: false,
        met_held_object: false,
        put_back: None,
    };
    let Some(mut shared_state) = shmem::shared_state() else {
        return Ok(Some(ClaimOutcome::Nothing));
    };
    if shared_state.lane(claim.entered.lane).is_none_or(|lane| lane.paused) {
        // The lane was paused after the span was handed out. Some of these rows may have been committed after the
        // pause.
        return Ok(Some(ClaimOutcome::Nothing));
    }
    claim.take(rows, &mut shared_state);
    if !claim.objects.is_empty() {
        drop(shared_state);
        let objects = claim.objects.keys().cloned().collect();
        let versions = newest_versions(client, order.index_id, objects, statements, order.limits)?;
        match shmem::shared_state() {
            Some(locked) => shared_state = locked,
            None => return Ok(Some(ClaimOutcome::Nothing)),
        }
        claim.take_versions(versions, &mut shared_state);
    }
    Ok(claim.finish(shared_state))
}

impl<'conn> ClaimInProgress<'_, 'conn> {
    /// Claims rows, and the objects of rows that are versions.
    fn take(&mut self, rows: Vec<QueuedRow<'conn>>, shared_state: &mut SharedState) {
        let (slot, lane) = (self.entered.slot, self.entered.lane);
        for QueuedRow { id, content } in rows {
            if !self.is_meant(id, shared_state) {
                self.last = Some(id);
                continue;
            }
            if self.is_enough() {
                self.cut = true;
                break;
            }
            let claim = match &content {
                QueuedContent::Record(record) => {
                    let size = record.size();
                    if self.is_full_for(size) {
                        self.cut = true;
                        break;
                    }
                    let claim = match self.order.claimable.held_back {
                        Some(_) => Claim::Granted,
                        None => shared_state.claim(slot, id),
                    };
                    if claim == Claim::Granted {
                        self.entered.ids.push(id);
                        self.entered.bytes += size;
                    }
                    claim
                }
                QueuedContent::Version(object) => {
                    let hash = object_hash(object);
                    match self.entered.objects.contains(&hash) {
                        true => Claim::Granted,
                        false => shared_state.claim_object(slot, lane, hash, id),
                    }
                }
            };
            if claim == Claim::Full {
                self.cut = true;
                self.is_table_full = true;
                break;
            }
            self.last = Some(id);
            self.met_held_object |=
                matches!(claim, Claim::HeldBy(_)) && self.order.claimable.held_back.is_some();
            if matches!(claim, Claim::HeldBy(_)) {
                self.put_back_suspect(id);
            }
            match (claim, content) {
                (Claim::Granted, QueuedContent::Record(record)) => self.records.push((id, record)),
                (Claim::Granted, QueuedContent::Version(object)) => {
                    self.entered.objects.insert(object_hash(&object));
                    self.objects.entry(object).or_insert(id);
                }
                _ => (),
            }
        }
    }

    /// A suspect whose object is held is tried again as a suspect, and not with all other rows once the object is
    /// released.
    fn put_back_suspect(&mut self, id: i64) {
        if self.entered.crash_retry.is_some() {
            self.put_back = self.put_back.max(Some(id));
        }
    }

    /// Whether a row may be claimed under this order.
    fn is_meant(&self, id: i64, shared_state: &SharedState) -> bool {
        self.order.claimable.held_back.is_none_or(|held_back| shared_state.is_in_held_back(held_back, id))
    }

    /// Whether as many rows have been claimed as were ordered.
    fn is_enough(&self) -> bool {
        let taken = self.records.len() + self.entered.objects.len();
        self.order.claimable.held_back.is_some_and(|held_back| taken as i64 >= held_back.most)
    }

    /// Whether a record of that size no longer fits. The first one always does.
    fn is_full_for(&self, size: usize) -> bool {
        self.entered.bytes > 0 && self.entered.bytes + size > self.order.limits.bytes
    }

    /// Takes the newest versions of the claimed objects, as many as fit, and releases the other objects.
    fn take_versions(&mut self, versions: Vec<NewestVersion<'conn>>, shared_state: &mut SharedState) {
        let (slot, lane) = (self.entered.slot, self.entered.lane);
        let (now, quarantine) = (now(), guc::quarantine());
        let mut kept = HashSet::new();
        for NewestVersion { id, record, since } in versions {
            let Some(object) = &record.object else { continue };
            let hash = object_hash(object);
            match self.order.claimable.held_back {
                None if shared_state.is_claimed(slot, id)
                    || shared_state.is_crash_suspect(slot, lane, id) =>
                {
                    continue
                }
                Some(held_back) if !shared_state.is_in_held_back(held_back, id) => {
                    // There is a newer version, which is delivered normally.
                    if let Some(older) = self.objects.get(object) {
                        shared_state.forget_superseded(held_back, *older);
                    }
                    continue;
                }
                _ => (),
            }
            if let Some(ends_at) = shared_state.held_since_start(since, quarantine, now) {
                shared_state.quarantine_claimed_object(slot, lane, (hash, id), ends_at);
                self.met_held_object = true;
                self.entered.objects.remove(&hash);
                if let Some(leading) = self.objects.get(object).copied() {
                    self.put_back_suspect(leading);
                }
                continue;
            }
            let size = record.size();
            if self.is_full_for(size) {
                if let Some(id) = self.objects.get(object) {
                    shared_state.postpone(slot, lane, *id);
                }
                continue;
            }
            self.entered.ids.push(id);
            self.entered.bytes += size;
            kept.insert(hash);
            self.records.push((id, record));
        }
        let free: Vec<i64> = self.entered.objects.difference(&kept).copied().collect();
        if !free.is_empty() {
            // Another worker may have been refused an object that is released here, for example because its version did
            // not fit. It must look again although no flight has ended.
            shared_state.release_objects(slot, lane, free);
        }
        self.entered.objects.retain(|hash| kept.contains(hash));
    }

    /// Enters the flight before it fills the batch: if a record crashes the process, the flight recorder knows the
    /// batch.
    fn finish(mut self, mut shared_state: Locked) -> Option<ClaimOutcome> {
        let mut rest = self.cut.then(|| self.claimable.rest(self.last));
        if let Some(id) = self.put_back {
            // Suspects are claimed from the newest on. Those claimed below this one will be gone by then.
            let Span { lo, hi } = rest.unwrap_or(self.claimable.span);
            rest = Some(Span { lo, hi: if rest.is_some() { hi.max(id) } else { id } });
        }
        if let (Some(held_back), true) = (self.order.claimable.held_back, self.records.is_empty()) {
            match self.met_held_object || self.is_table_full {
                true => shared_state.put_off_held_back(held_back, now()),
                false => {
                    shared_state.held_back_not_found(held_back, self.claimable.looked_through(rest), now())
                }
            }
        }
        let rest = rest.filter(|_| self.order.claimable.held_back.is_none());
        // Within a request, the newest version comes last.
        self.records.sort_unstable_by_key(|(id, _)| *id);
        let flight = match (self.records.first(), self.records.last()) {
            (Some((lo, _)), Some((hi, _))) => Some(Flight {
                rows: self.records.len() as i64,
                bytes: self.entered.bytes as i64,
                lane: self.entered.lane as u32,
                fresh: self.order.claimable.fresh,
                span: Span { lo: *lo, hi: *hi },
                started_at: now(),
                held_back: self.order.claimable.held_back.map_or(0, |held_back| held_back.place as u32 + 1),
                partial: self.order.claimable.partial && !self.cut,
            }),
            _ => None,
        };
        self.entered.flight = shared_state.enter_claim(self.entered.slot, rest, flight);
        if let (Some(place), Some(flight)) = (self.entered.flight, flight) {
            self.record(place, &flight, shared_state.lane_key(self.entered.lane));
        }
        let flush_target = shared_state.flush_target(shared_state.announcements());
        drop(shared_state);
        if self.entered.flight.is_none() && !self.records.is_empty() {
            // The lane has been closed meanwhile.
            self.entered.give_up();
        }
        failpoint::reach("in claim");
        match self.entered.flight {
            Some(flight) => {
                fill(self.order, self.entered, self.records, flight, flush_target).map(ClaimOutcome::Claimed)
            }
            None if self.is_table_full => Some(ClaimOutcome::TableFull),
            None => Some(ClaimOutcome::Nothing),
        }
    }

    /// Enters the batch into the flight recorder, in case it crashes the server.
    fn record(&self, place: usize, flight: &Flight, key: Option<LaneKey>) {
        let Some(LaneKey { database, index_id }) = key else { return };
        // A worker with suspects has nothing else in flight.
        let crashes = match self.entered.crash_retry {
            Some(crash_retry) if flight.rows == 1 => crash_retry.crashes.saturating_add(1),
            _ => 0,
        };
        let Flight { span, rows, .. } = *flight;
        let has_versions = !self.entered.objects.is_empty();
        let record = FlightRecord { database, index_id, span, rows, has_versions, crashes };
        flight_recorder::enter(self.entered.slot, place, record);
    }
}
