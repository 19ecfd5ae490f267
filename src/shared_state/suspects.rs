//! A lane's suspects: rows of batches that failed on the way are held back together, and the record at fault is
//! isolated. See [`SuspectSearch`].
#![forbid(unsafe_code)]

use super::{FlightResult, HeldBack, Micros, RetryDelay, SharedState, SuspectSearch};
use crate::claims::{Claim, Holder};

/// The most suspects of an index. Further failed batches are given back.
const MOST: i64 = 1 << 14;

impl SharedState {
    /// Holds back the rows of a batch that failed on the way. `false`: not all of them fit, and the caller gives them
    /// back.
    pub(super) fn hold_back_suspects(
        &mut self,
        lane: usize,
        rows: &[i64],
        failure: RetryDelay,
        now: Micros,
    ) -> bool {
        let Some(key) = self.lane_key(lane).filter(|key| key.database != 0) else { return false };
        if self.claims.len() >= self.claims.capacity() / 2 {
            return false;
        }
        let is_suspect = |entry: &HeldBack| entry.is_of(key.database, key.index_id) && !entry.is_isolated;
        let known = self.held_back_entries().iter().position(is_suspect);
        let Some(place) = known.or_else(|| self.open_held_back(key.database, key.index_id)) else {
            return false;
        };
        let Some(entry) = self.held_back.get_mut(place) else { return false };
        if entry.rows + rows.len() as i64 > MOST {
            return false;
        }
        if known.is_none() {
            entry.due = failure.ends_at(0, now);
            entry.search = SuspectSearch { streak: 1, ..SuspectSearch::NEW };
        }
        entry.failed_at = now;
        entry.has_grown = true;
        let mut all = true;
        for id in rows {
            all &= self.claims.claim(Holder::held_back(place), key.database, *id) == Claim::Granted;
            if let (true, Some(entry)) = (all, self.held_back.get_mut(place)) {
                entry.rows += 1;
                entry.add(*id);
            }
        }
        if known.is_none() && self.held_back.get(place).is_some_and(|entry| entry.rows == 0) {
            self.close_held_back(place);
        }
        all
    }

    /// A part of a lane's suspects has returned. `arrived`: some rows were delivered; those in `left` stay in the set.
    /// Returns the record at fault if it has been identified.
    pub(super) fn end_suspect_flight(
        &mut self,
        place: usize,
        arrived: bool,
        FlightResult { left, failure, versions, .. }: FlightResult<'_>,
        now: Micros,
    ) -> Option<i64> {
        let arrived_at = self.arrived_at(place);
        let entry = self.held_back.get_mut(place)?;
        let Some(failure) = failure else {
            if arrived {
                entry.search.arrived();
            }
            entry.due = now;
            return None;
        };
        let others_arrive = arrived || arrived_at > entry.failed_at;
        let is_smallest = entry.search.failed(left.len() as i64, others_arrive);
        let is_no_outage = entry.search.is_no_outage;
        entry.failed_at = now;
        entry.due = failure.ends_at(entry.search.failures(), now);
        let [found] = left else { return None };
        // While nothing arrives, every record would be taken for the one at fault.
        let is_found = is_smallest && is_no_outage;
        let object = versions.iter().find(|(_, id)| id == found).map_or(0, |(hash, _)| *hash);
        (is_found && self.isolate(place, *found, object, failure, now)).then_some(*found)
    }

    /// Moves a record from a set to an entry of its own.
    fn isolate(&mut self, place: usize, id: i64, object: i64, failure: RetryDelay, now: Micros) -> bool {
        let Some(entry) = self.held_back.get(place).copied() else { return false };
        let Some(alone) = self.open_held_back(entry.database, entry.index_id) else { return false };
        self.claims.transfer(entry.database, id, Holder::held_back(alone));
        if let Some(alone) = self.held_back.get_mut(alone) {
            alone.is_isolated = true;
            alone.rows = 1;
            alone.add(id);
            alone.object = object;
            alone.failures = 1;
            alone.failed_at = now;
            alone.due = failure.ends_at(1, now);
        }
        self.remove_from_held_back(place);
        true
    }
}
