//! The table of rows held back: its entries, and the decision between a dead letter and a retry. See [`HeldBack`].
#![forbid(unsafe_code)]

use super::{HeldBack, Micros, RejectAction, SharedState, HELD_BACK};
use crate::claims::{Claim, Holder};
use crate::id_ranges::Span;

/// The entries.
impl SharedState {
    /// All entries that may be in use.
    pub(super) fn held_back_entries(&self) -> &[HeldBack] {
        self.held_back.get(..self.held_back_ever_used as usize).unwrap_or(&self.held_back)
    }

    pub(super) fn held_back_entries_mut(&mut self) -> &mut [HeldBack] {
        let used = (self.held_back_ever_used as usize).min(HELD_BACK);
        self.held_back.get_mut(..used).unwrap_or_default()
    }

    /// Takes a free entry.
    pub(super) fn open_held_back(&mut self, database: u32, index_id: i32) -> Option<usize> {
        let place = self.held_back.iter().position(|entry| entry.database == 0)?;
        self.held_back_ever_used = self.held_back_ever_used.max(place as u32 + 1);
        let lane = self.find_lane(database, index_id).unwrap_or_default() as u32;
        *self.held_back.get_mut(place)? = HeldBack { database, index_id, lane, ..HeldBack::EMPTY };
        Some(place)
    }

    /// Closes an entry. Rows that it still has, for example because somebody else has locked them, wait like any
    /// others.
    pub(super) fn close_held_back(&mut self, place: usize) {
        let Some(entry) = self.held_back.get_mut(place) else { return };
        let HeldBack { database, index_id, hull, rows, .. } = std::mem::replace(entry, HeldBack::EMPTY);
        if rows == 0 {
            return;
        }
        if hull.lo < hull.hi {
            self.claims.release_all(Holder::held_back(place));
        } else if self.claims.holder(database, hull.lo) == Some(Holder::held_back(place)) {
            self.claims.release(database, hull.lo);
        }
        if let Some(lane) = self.find_lane(database, index_id).and_then(|lane| self.lanes.get_mut(lane)) {
            lane.give_back(hull);
        }
    }

    /// Removes a row from a set.
    pub(super) fn remove_from_held_back(&mut self, place: usize) {
        let Some(entry) = self.held_back.get_mut(place) else { return };
        entry.rows = entry.rows.saturating_sub(1);
        if entry.rows == 0 && entry.in_flight == 0 {
            *entry = HeldBack::EMPTY;
        }
    }

    /// The place of an entry's lane.
    pub(super) fn lane_of_held_back(&self, entry: &HeldBack) -> Option<usize> {
        let (database, index_id, place) = (entry.database, entry.index_id, entry.lane as usize);
        let is_it = self.lane_key(place).is_some_and(|key| entry.is_of(key.database, key.index_id));
        if is_it {
            Some(place)
        } else {
            self.find_lane(database, index_id)
        }
    }

    /// Of all attempts for the entry's index that delivered rows, the start of the latest.
    pub(super) fn arrived_at(&self, place: usize) -> Micros {
        let lane = self.held_back.get(place).and_then(|entry| self.lane_of_held_back(entry));
        lane.and_then(|lane| self.lane(lane)).map_or(0, |lane| lane.arrived_at)
    }
}

/// Rejected records, and others that are tried again by themselves.
impl SharedState {
    /// Counts the rejection of a record that `worker` holds, and compares it with `max_attempts` (0 counts as 1).
    pub fn judge_rejection(
        &mut self,
        worker: usize,
        index_id: i32,
        id: i64,
        max_attempts: i32,
    ) -> RejectAction {
        let Some(database) = self.workers.get(worker).map(|me| me.database) else {
            return RejectAction::DeadLetter(1);
        };
        let known = self.place_of_record(database, index_id, id);
        let attempts = known.and_then(|place| self.held_back.get(place)).map_or(0, |one| one.attempts) + 1;
        if attempts >= max_attempts {
            return RejectAction::DeadLetter(attempts);
        }
        let clock = self.clock;
        let Some(entry) = self.judged_entry(worker, (database, index_id), id) else {
            return RejectAction::DeadLetter(attempts);
        };
        (entry.attempts, entry.failed_at) = (attempts, clock);
        RejectAction::Retry(attempts)
    }

    /// A record that `worker` holds could not be processed for a reason of the server's, such as damage or lack of
    /// memory. That is no rejection, so it is no attempt. Returns how often this has happened before; `None` if no
    /// more records can be held back.
    pub fn note_unprocessable(&mut self, worker: usize, index_id: i32, id: i64) -> Option<u32> {
        let database = self.workers.get(worker)?.database;
        let clock = self.clock;
        let entry = self.judged_entry(worker, (database, index_id), id)?;
        let before = entry.failures;
        (entry.failures, entry.failed_at) = (before.saturating_add(1), clock);
        Some(before)
    }

    /// The entry of a single record that `worker` is about to hold back, created if necessary.
    fn judged_entry(
        &mut self,
        worker: usize,
        (database, index_id): (u32, i32),
        id: i64,
    ) -> Option<&mut HeldBack> {
        let known = self.place_of_record(database, index_id, id);
        let place = known.or_else(|| self.open_held_back(database, index_id))?;
        let entry = self.held_back.get_mut(place)?;
        entry.is_isolated = true;
        entry.add(id);
        entry.judged_by = worker as u32 + 1;
        Some(entry)
    }

    fn place_of_record(&self, database: u32, index_id: i32, id: i64) -> Option<usize> {
        self.held_back_entries().iter().position(|entry| entry.is_record(database, index_id, id))
    }

    /// What [`UnattributedRejections::may_dead_letter`] says of a record of a flight of `rows` rows.
    pub fn may_dead_letter(&mut self, worker: usize, flight: usize, rows: usize, now: Micros) -> bool {
        let place = self.lane_of_flight(worker, flight);
        place
            .and_then(|place| self.lane_at(place))
            .is_none_or(|lane| lane.unattributed_rejections.may_dead_letter(rows as i64, now))
    }

    /// A record that was sent alone has failed on the way again; `None` if the flight is of another kind. The record
    /// waits longer each time. A refusal by a gateway counts as one of its attempts if other rows of the index have arrived since
    /// its failure before. `max_attempts` = 0 means any number.
    pub fn judge_isolated(
        &mut self,
        worker: usize,
        flight: usize,
        refused: bool,
        max_attempts: i32,
        now: Micros,
    ) -> Option<RejectAction> {
        let flight = self.workers.get(worker)?.flights.get(flight)?;
        let place = (flight.held_back as usize).checked_sub(1)?;
        let arrived_at = self.arrived_at(place);
        let entry = self.held_back.get_mut(place).filter(|entry| entry.is_isolated)?;
        if refused && arrived_at > entry.failed_at {
            entry.attempts = entry.attempts.saturating_add(1);
        }
        if refused && max_attempts > 0 && entry.attempts >= max_attempts {
            return Some(RejectAction::DeadLetter(entry.attempts));
        }
        entry.failed_at = now;
        entry.failures = entry.failures.saturating_add(1);
        entry.judged_by = worker as u32 + 1;
        Some(RejectAction::Retry(i32::try_from(entry.failures).unwrap_or(i32::MAX)))
    }

    /// Keeps a waiting record from being claimed before `due`. Call this when its worker gives it back.
    pub fn hold_back(&mut self, database: u32, index_id: i32, id: i64, due: Micros) {
        let Some(place) = self.place_of_record(database, index_id, id) else {
            // The entry is gone, for example after DROP EXTENSION: the record waits like any other.
            if let Some(lane) = self.find_lane(database, index_id).and_then(|lane| self.lanes.get_mut(lane)) {
                lane.give_back(Span { lo: id, hi: id });
            }
            return;
        };
        let claimed = self.claims.claim(Holder::held_back(place), database, id);
        if let Some(entry) = self.held_back.get_mut(place) {
            (entry.rows, entry.due, entry.judged_by) = (1, due, 0);
        }
        if !matches!(claimed, Claim::Granted)
            && self.claims.holder(database, id) != Some(Holder::held_back(place))
        {
            self.close_held_back(place);
        }
    }
}

/// Questions about rows held back.
impl SharedState {
    /// The spans that contain the rows of an index that are held back.
    pub(super) fn held_back(&self, database: u32, index_id: i32) -> impl Iterator<Item = Span> + '_ {
        let of_index = move |entry: &&HeldBack| entry.is_of(database, index_id) && entry.rows > 0;
        self.held_back_entries().iter().filter(of_index).map(|entry| entry.hull)
    }

    /// How many rows of an index are held back, including those in flight.
    pub fn held_back_rows(&self, database: u32, index_id: i32) -> i64 {
        self.held_back_entries()
            .iter()
            .filter(|entry| entry.is_of(database, index_id))
            .map(|entry| entry.rows)
            .sum()
    }

    /// How many of them are not in flight.
    pub(super) fn held_back_waiting(&self, database: u32, index_id: i32) -> i64 {
        let of_index = self.held_back_entries().iter().filter(|entry| entry.is_of(database, index_id));
        of_index.map(|entry| entry.rows.saturating_sub(entry.in_flight)).sum()
    }

    /// Forgets the entries of lanes that are gone. The caller must end their claims.
    pub(super) fn forget_held_back(&mut self, is_gone: impl Fn(u32, i32) -> bool) -> [bool; HELD_BACK] {
        let mut forgotten = [false; HELD_BACK];
        for (entry, forgotten) in self.held_back_entries_mut().iter_mut().zip(&mut forgotten) {
            if entry.database != 0 && is_gone(entry.database, entry.index_id) {
                *forgotten = entry.rows > 0;
                *entry = HeldBack::EMPTY;
            }
        }
        forgotten
    }
}
