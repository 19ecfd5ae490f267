//! Claiming rows held back, and what happens when such a claim or flight ends. See [`HeldBack`].
#![forbid(unsafe_code)]

use std::collections::HashSet;

use super::capacity::Capacity;
use super::{Claimable, FlightResult, HeldBack, HeldBackClaim, Micros, Next, SharedState, HELD_BACK};
use crate::claims::Holder;
use crate::id_ranges::Span;

/// A claim rarely takes longer than this.
const ANOTHER_CLAIM: Micros = 50_000;

impl SharedState {
    /// Gives `worker` rows held back that are due, if it has room. `first`: only rows of healthy lanes whose other rows
    /// have been claimed since.
    pub(super) fn next_held_back(
        &mut self,
        worker: usize,
        capacity: &Capacity,
        first: bool,
        now: Micros,
    ) -> Option<Next> {
        let database = self.workers.get(worker)?.database;
        if !capacity.for_any().trouble {
            return None;
        }
        let is_due = |(place, entry): &(usize, &HeldBack)| {
            let lane = self.held_back_opens_at(database, entry).filter(|(_, at)| *at <= now);
            let turn = |lane: usize| {
                self.lane(lane).is_some_and(|lane| {
                    lane.is_open(now) && (!first || (lane.is_turn_of_held_back && !lane.is_in_trouble()))
                })
            };
            lane.filter(|(lane, _)| turn(*lane)).map(|(lane, _)| (entry.due, *place, lane))
        };
        let (_, place, lane) =
            self.held_back_entries().iter().enumerate().filter_map(|one| is_due(&one)).min()?;
        let entry = self.held_back.get_mut(place)?;
        let (span, end) = entry.search.place(&entry.id_ranges)?;
        entry.worker = worker as u32 + 1;
        entry.has_grown = false;
        let held_back = Some(HeldBackClaim { place, most: entry.search.portion() });
        let claimable = Claimable { span, end, fresh: false, partial: false, held_back };
        let index_id = entry.index_id;
        self.lanes.get_mut(lane)?.is_turn_of_held_back = false;
        let me = self.workers.get_mut(worker)?;
        me.mark_awake();
        me.scanning_lane = lane as u32 + 1;
        me.scanning = span;
        me.scanning_held_back = place as u32 + 1;
        Some(Next::Claim {
            lane,
            index_id,
            claimable,
            bytes: capacity.bytes_for(lane, false),
            crash_retry: None,
        })
    }

    /// The lane of a waiting entry of a database, and when the entry may be claimed.
    fn held_back_opens_at(&self, database: u32, entry: &HeldBack) -> Option<(usize, Micros)> {
        let waits = entry.database == database && entry.worker == 0 && entry.judged_by == 0 && entry.rows > 0;
        let place = waits.then(|| self.lane_of_held_back(entry)).flatten()?;
        let lane = self.lane(place).filter(|lane| !lane.paused)?;
        // The cause of the failure may have been fixed, or the outage may be over.
        let news = match entry.is_isolated || entry.search.is_no_outage() {
            true => lane.backoff_reset_at,
            false => lane.backoff_reset_at.max(lane.arrived_at),
        };
        let due = if news > entry.failed_at { news.min(entry.due) } else { entry.due };
        Some((place, due.max(entry.held_until).max(lane.retry_at)))
    }

    /// When the next rows held back of a database may be claimed.
    pub(super) fn next_release_due(&self, database: u32) -> Option<Micros> {
        let opens =
            self.held_back_entries().iter().filter_map(|entry| self.held_back_opens_at(database, entry));
        let waits =
            |lane: usize| self.lane(lane).is_some_and(|lane| !(lane.is_in_trouble() && lane.in_flight > 0));
        opens.filter(|(lane, _)| waits(*lane)).map(|(_, at)| at).min()
    }

    /// Whether a row belongs to the entry that is being claimed.
    pub fn is_in_held_back(&self, held_back: HeldBackClaim, id: i64) -> bool {
        let entry = self.held_back.get(held_back.place);
        entry.is_some_and(|entry| {
            self.claims.holder(entry.database, id) == Some(Holder::held_back(held_back.place))
        })
    }

    /// The version in a row held back has been superseded and will not be sent.
    pub fn forget_superseded(&mut self, held_back: HeldBackClaim, id: i64) {
        let Some(database) = self.held_back.get(held_back.place).map(|entry| entry.database) else { return };
        if self.is_in_held_back(held_back, id) {
            self.claims.release(database, id);
            if let Some(entry) = self.held_back.get_mut(held_back.place) {
                entry.rows = entry.rows.saturating_sub(1);
            }
        }
    }

    /// None of the rows in the span of an entry that was to be claimed was one of the entry's. They are looked for once
    /// more, a moment later, because another claim may have had them locked. Rows that are still not found then are
    /// gone or locked by somebody else.
    pub fn held_back_not_found(&mut self, held_back: HeldBackClaim, span: Span, now: Micros) {
        let Some(entry) = self.held_back.get_mut(held_back.place) else { return };
        if entry.has_grown || (!std::mem::replace(&mut entry.is_missing, true) && entry.rows > 0) {
            entry.held_until = now.saturating_add(ANOTHER_CLAIM);
            return;
        }
        entry.id_ranges.remove(span);
        if entry.id_ranges.is_empty() || entry.rows == 0 {
            self.close_held_back(held_back.place);
        }
    }

    /// Rows of an entry cannot be sent now, because their objects are held.
    pub fn put_off_held_back(&mut self, held_back: HeldBackClaim, now: Micros) {
        let released_at = self.next_quarantine_end().unwrap_or(Micros::MAX);
        if let Some(entry) = self.held_back.get_mut(held_back.place) {
            entry.held_until = released_at.clamp(now.saturating_add(10_000), now.saturating_add(1_000_000));
        }
    }

    /// A claim from an entry has ended without a flight.
    pub(super) fn end_held_back_claim(&mut self, worker: usize, place: usize) {
        if let Some(entry) = self.held_back.get_mut(place) {
            if entry.worker == worker as u32 + 1 && entry.in_flight == 0 {
                entry.worker = 0;
            }
        }
    }

    /// Rows of an entry have returned. Those in `left` stay; a record that has just been judged is about to be held
    /// back. Returns the record that was identified among suspects, if one was.
    pub(super) fn end_held_back_flight(
        &mut self,
        place: usize,
        worker: usize,
        rows: &[i64],
        flight_result: FlightResult<'_>,
        now: Micros,
    ) -> Option<i64> {
        let entry = self.held_back.get_mut(place).filter(|entry| entry.worker == worker as u32 + 1)?;
        (entry.worker, entry.in_flight, entry.due) = (0, 0, now);
        let (database, is_isolated, is_judged) = (entry.database, entry.is_isolated, entry.judged_by != 0);
        if is_isolated && is_judged {
            return None;
        }
        let left: HashSet<i64> = flight_result.left.iter().copied().collect();
        for id in rows.iter().filter(|id| !left.contains(id)) {
            if self.claims.holder(database, *id) == Some(Holder::held_back(place)) {
                self.claims.release(database, *id);
                self.remove_from_held_back(place);
            }
        }
        let entry = self.held_back.get_mut(place).filter(|entry| entry.database != 0)?;
        if is_isolated {
            // If it failed, it should have become a dead letter and could not.
            if let Some(failure) = flight_result.failure {
                entry.failures = entry.failures.saturating_add(1);
                entry.due = failure.ends_at(entry.failures, now);
            }
            return None;
        }
        let found = self.end_suspect_flight(place, !flight_result.delivered.is_empty(), flight_result, now);
        if let (Some(held_until), Some(entry)) = (flight_result.held_until, self.held_back.get_mut(place)) {
            if flight_result.left.len() as i64 >= entry.rows {
                entry.held_until = held_until;
            }
        }
        found
    }

    /// A worker ends: the records that it has judged or claimed wait like the others held back.
    pub(super) fn release_held_back(&mut self, worker: usize) {
        let mut unclaimed = [false; HELD_BACK];
        for (entry, unclaimed) in self.held_back_entries_mut().iter_mut().zip(&mut unclaimed) {
            if entry.judged_by == worker as u32 + 1 {
                entry.judged_by = 0;
                *unclaimed = entry.rows == 0;
            }
            if entry.worker == worker as u32 + 1 {
                (entry.worker, entry.in_flight) = (0, 0);
            }
        }
        // It was rejected for the first time and not held back yet.
        for (place, _) in unclaimed.iter().enumerate().filter(|(_, unclaimed)| **unclaimed) {
            self.close_held_back(place);
        }
    }

    /// A batch of versions has returned. A delivered version supersedes older versions that wait alone. For a version
    /// that is about to wait alone, its object is recorded.
    pub(super) fn note_versions(&mut self, worker: usize, lane: usize, flight_result: FlightResult<'_>) {
        let (true, Some(key)) = (!flight_result.versions.is_empty(), self.lane_key(lane)) else { return };
        for place in 0..self.held_back_entries().len() {
            let Some(entry) = self.held_back.get_mut(place) else { return };
            let own = entry.hull.hi;
            if !entry.is_isolated || !entry.is_of(key.database, key.index_id) {
                continue;
            }
            let arrived = |id: &i64| flight_result.delivered.contains(id);
            let is_superseded = flight_result.versions.iter().any(|(hash, id)| {
                let is_older = entry.object == *hash && own < *id;
                is_older && entry.worker == 0 && arrived(id)
            });
            let itself = flight_result.versions.iter().find(|(_, id)| *id == own);
            if let (true, Some((hash, _))) = (entry.judged_by == worker as u32 + 1, itself) {
                entry.object = *hash;
            }
            if is_superseded {
                self.close_held_back(place);
            }
        }
    }
}
