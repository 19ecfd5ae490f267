//! Rows whose batch has failed on the way, and the search for the one that the way does not bear.
//!
//! A proxy that resets the connection for one text, or answers it with a page of its own, looks like an outage to whoever
//! sends that text among others. So the rows of a batch that has failed are set apart: each index has one set of **suspects**,
//! of which one request at a time is under way, while everything else of the index goes on around it. What arrives
//! meanwhile shows that it is no outage. Then smaller and smaller parts of the set are sent, from both ends of it in turn;
//! a part that arrives leaves the set, and is followed by a larger one. A record that fails by itself is found, and waits
//! alone from then on.
//!
//! While nothing of the index arrives, a part costs an outage nothing: the set is tried as seldom as the backoff says, the
//! whole of it at first and then less each time, which is how a record is found whose batch is all there is. The first
//! success brings back the whole.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::{End, HeldBack, Landing, Micros, SharedState};
use crate::claims::Claim;
use crate::delivery::backoff::Backoff;
use crate::id_ranges::{IdRanges, Span};

/// Most suspects of one index. Batches that fail beyond that are given back.
const MOST: i64 = 1 << 14;
/// So many failures in a row, after something has arrived, go without a growing pause: halving finds one record of a
/// thousand in ten.
const QUICK: u32 = 12;
/// So many attempts at the whole fail before less is tried, as long as nothing arrives.
const PATIENT: u32 = 3;

/// How long to wait after a failure.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// The bounds of the waiting time.
    pub backoff: Backoff,
    /// Between 0 and 1.
    pub rng: f64,
    /// What was asked for.
    pub at_least: Duration,
}

impl Failure {
    pub(super) fn ends_at(&self, failures: u32, now: Micros) -> Micros {
        let delay = self.backoff.delay(failures, self.rng).max(self.at_least).as_micros();
        now.saturating_add(Micros::try_from(delay).unwrap_or(Micros::MAX))
    }
}

/// How far a search is. All zeroes is one that has not begun.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Search {
    /// How many rows are sent next; 0: as many as a batch takes.
    portion: i64,
    /// The next part is taken from the oldest of the rows.
    from_oldest: bool,
    /// Failures in a row since something of the index arrived.
    streak: u32,
    /// Something of the index has arrived since the set first failed.
    is_no_outage: bool,
}

impl Search {
    /// One that has not begun.
    pub const NEW: Search = Search { portion: 0, from_oldest: false, streak: 0, is_no_outage: false };

    /// How many rows are sent next.
    pub(super) fn portion(&self) -> i64 {
        match self.portion {
            0 => i64::MAX,
            portion => portion,
        }
    }

    /// From where the next part is taken, and from which end of that.
    pub(super) fn place(&self, id_ranges: &IdRanges) -> Option<(Span, End)> {
        if self.portion == 1 && !self.is_no_outage {
            // There may be more than one at fault, also at both ends: it is tried here and there.
            let rng = (u64::from(self.streak)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16;
            let places = id_ranges.iter().count() as u64;
            let Span { lo, hi } = id_ranges.iter().nth(rng.checked_rem(places)? as usize)?;
            let width = hi.abs_diff(lo).saturating_add(1);
            return Some((Span { lo, hi: lo.saturating_add_unsigned(rng % width) }, End::Newest));
        }
        match self.from_oldest {
            true => Some((id_ranges.oldest()?, End::Oldest)),
            false => Some((id_ranges.newest()?, End::Newest)),
        }
    }

    /// Whether something of the index has arrived since the set first failed.
    pub(super) fn is_no_outage(&self) -> bool {
        self.is_no_outage
    }

    /// A part has arrived.
    fn arrived(&mut self) {
        self.portion = if self.is_no_outage { self.portion.saturating_mul(2) } else { 0 };
        self.is_no_outage = true;
        self.streak = 0;
    }

    /// A part of so many rows has failed; whether something else of the index has arrived since the failure before.
    /// Returns whether the part is so small that nothing is left to be cut.
    fn failed(&mut self, rows: i64, others_arrive: bool) -> bool {
        if others_arrive {
            self.is_no_outage = true;
            self.streak = 0;
        }
        self.streak = self.streak.saturating_add(1);
        self.is_no_outage &= self.streak <= QUICK;
        if !self.is_no_outage && self.streak < PATIENT {
            return false;
        }
        self.portion = (rows / 2).max(1);
        self.from_oldest = !self.from_oldest;
        rows <= 1
    }

    /// Failures that count for the pause before the next attempt.
    fn failures(&self) -> u32 {
        if self.is_no_outage {
            0
        } else {
            self.streak
        }
    }
}

impl SharedState {
    /// Sets the rows of a batch apart that has failed on the way. `false`: there is no room for that, or for all of them;
    /// they are to be given back.
    pub(super) fn set_apart(&mut self, lane: usize, rows: &[i64], failure: Failure, now: Micros) -> bool {
        let Some(key) = self.lane_key(lane).filter(|key| key.database != 0) else { return false };
        if self.claims.len() >= self.claims.capacity() / 2 {
            return false;
        }
        let is_suspect = |entry: &HeldBack| entry.is_of(key.database, key.index_id) && !entry.is_alone;
        let known = self.on_trial().iter().position(is_suspect);
        let Some(place) = known.or_else(|| self.open_probation(key.database, key.index_id)) else {
            return false;
        };
        let Some(entry) = self.held_back.get_mut(place) else { return false };
        if entry.rows + rows.len() as i64 > MOST {
            return false;
        }
        if known.is_none() {
            entry.due = failure.ends_at(0, now);
            entry.search = Search { streak: 1, ..Search::NEW };
        }
        entry.failed_at = now;
        entry.has_grown = true;
        let mut all = true;
        for id in rows {
            all &= self.claims.claim(HeldBack::owner(place), key.database, *id) == Claim::Taken;
            if let (true, Some(entry)) = (all, self.held_back.get_mut(place)) {
                entry.rows += 1;
                entry.add(*id);
            }
        }
        if known.is_none() && self.held_back.get(place).is_some_and(|entry| entry.rows == 0) {
            self.end_probation(place);
        }
        all
    }

    /// A part of a lane's suspects is back: some rows have `arrived`, and those `left` stay in the set. Returns the record
    /// that was found, if one was.
    pub(super) fn apart_back(
        &mut self,
        place: usize,
        arrived: bool,
        Landing { left, failure, versions, .. }: Landing<'_>,
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
        // While nothing arrives, each of them would be found.
        let is_found = is_smallest && is_no_outage;
        let object = versions.iter().find(|(_, id)| id == found).map_or(0, |(hash, _)| *hash);
        (is_found && self.isolate(place, *found, object, failure, now)).then_some(*found)
    }

    /// Takes a record out of a set, to wait alone.
    fn isolate(&mut self, place: usize, id: i64, object: i64, failure: Failure, now: Micros) -> bool {
        let Some(entry) = self.held_back.get(place).copied() else { return false };
        let Some(alone) = self.open_probation(entry.database, entry.index_id) else { return false };
        self.claims.hand_over(entry.database, id, HeldBack::owner(alone));
        if let Some(alone) = self.held_back.get_mut(alone) {
            alone.is_alone = true;
            alone.rows = 1;
            alone.add(id);
            alone.object = object;
            alone.failures = 1;
            alone.failed_at = now;
            alone.due = failure.ends_at(1, now);
        }
        self.leave_set(place);
        true
    }
}
