//! What one transaction changes in the queue, and the uncertain moment while it commits.
//!
//! Rows become visible a moment before the commit callback can count them. A recount whose snapshot falls into that
//! moment would count such rows twice. So a transaction announces its changes before it commits, and takes the
//! announcement back when they are counted. The recount reads counters and announcements together.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use super::{
    Announcement, Announcements, CommitDelta, Count, FlushTarget, LatchSet, Micros, Prepared, SharedState,
};

/// The pause after an unfinished count. It doubles each time, up to a minute.
const RECOUNT_PAUSE: Micros = 1_000_000;
const LONGEST_RECOUNT_PAUSE: Micros = 60_000_000;

impl SharedState {
    /// Records the end of the commit record of a transaction that has queued rows. Call this before publishing the
    /// rows.
    pub fn note_commit_lsn(&mut self, lsn: u64) {
        self.commit_lsn = self.commit_lsn.max(lsn);
    }

    /// How far the WAL must be flushed so that no crash undoes a commit that is visible now.
    pub fn flush_target(&self, announcements: &Announcements) -> FlushTarget {
        if announcements.all(self).any(|announcement| announcement.is_lazy) {
            FlushTarget::All
        } else {
            FlushTarget::Until(self.commit_lsn)
        }
    }

    /// Publishes a committed transaction: adds its changes to the counters and its rows to the lanes. Returns the
    /// latches to set.
    pub fn publish(&mut self, database: u32, changes: &[CommitDelta], now: Micros) -> LatchSet {
        let mut rows = 0;
        let mut drained = false;
        let low_water = self.low_water(database, changes);
        for change in changes {
            let Some(lane) = self.lane_mut(database, change.index_id) else {
                continue;
            };
            let before = lane.queued;
            lane.queued += change.queued - change.removed;
            drained |= before > low_water && lane.queued <= low_water;
            lane.enqueued_total += change.queued;
            lane.dead += change.dead;
            lane.dead_total += change.dead.max(0);
            lane.repairs += change.repairs;
            lane.repairs_total += change.repairs.max(0);
            if change.queued > 0 {
                lane.publish(&change.spans, change.queued, now);
                // Nobody can send the rows of a lane that is paused or backs off; a sleeping worker knows when the
                // backoff ends. Nor must anybody be woken for rows that wait for a batch in flight.
                let waits = lane.paused || lane.retry_at > now || lane.waits_for_return(&change.spans, now);
                rows += if waits { 0 } else { change.queued };
            }
        }
        let mut latches = if rows > 0 { self.wake_one(database, changes) } else { LatchSet::default() };
        if drained {
            latches.add(self.backfiller(database).latch);
        }
        if changes.iter().any(|change| change.repairs > 0) {
            latches = latches.and(self.request_repair(database));
        }
        latches
    }

    /// Publishes a committed transaction that was not completely announced. A count whose snapshot included its rows
    /// did not know that they would be added here, so another count is requested.
    pub fn publish_unannounced(&mut self, database: u32, changes: &[CommitDelta], now: Micros) -> LatchSet {
        self.publish(database, changes, now).and(self.outdate_count(database))
    }

    /// A count that is running may be wrong in the end, so another one is requested.
    pub(super) fn outdate_count(&mut self, database: u32) -> LatchSet {
        self.database_mut(database).into_iter().for_each(|entry| entry.is_count_outdated = true);
        self.request_recount(database)
    }

    /// All announcements of a database, for a count. A prepared transaction may commit at any time, so it counts as
    /// announced for as long as it is remembered.
    pub fn announced<'a>(
        &'a self,
        announcements: &'a Announcements,
        database: u32,
    ) -> impl Iterator<Item = Announcement> + 'a {
        let committing = announcements.all(self);
        let prepared = self.prepared.iter().filter(|p| p.change.index_id != 0).map(Prepared::announcement);
        committing.chain(prepared).filter(move |a| a.database == database)
    }

    /// Corrects the counters of a database, for each index by the difference between the rows `counted` and those
    /// `expected` by the counters at the time of the snapshot.
    pub fn correct_counts(
        &mut self,
        database: u32,
        expected: &HashMap<i32, Count>,
        counted: &HashMap<i32, Count>,
    ) {
        for index_id in expected.keys().chain(counted.keys().filter(|index| !expected.contains_key(index))) {
            let of = |counts: &HashMap<i32, Count>| counts.get(index_id).copied().unwrap_or_default();
            if let Some(lane) = self.lane_mut(database, *index_id) {
                lane.queued += of(counted).queued - of(expected).queued;
                lane.dead += of(counted).dead - of(expected).dead;
                lane.repairs += of(counted).repairs - of(expected).repairs;
            }
        }
    }

    /// All tables of a database have been counted: its counters are exact from now on, unless rows came that the count
    /// did not know of. Then the next count makes them exact.
    pub fn counted(&mut self, database: u32) {
        if self.database_mut(database).is_some_and(|entry| entry.is_count_outdated) {
            return;
        }
        let places: Vec<usize> = self.lanes_of(database).map(|(place, _)| place).collect();
        for place in places {
            if let Some(lane) = self.lane_at(place) {
                lane.counted = true;
            }
        }
    }

    /// The process that counts has ended. `again`: it was not finished.
    pub fn counter_ended(&mut self, database: u32, again: bool, now: Micros) -> LatchSet {
        let latches = self.wake_launcher();
        if let Some(entry) = self.database_mut(database) {
            entry.counter = 0;
            entry.recount |= again;
            if again {
                let pause = (RECOUNT_PAUSE << entry.failed_counts.min(6)).min(LONGEST_RECOUNT_PAUSE);
                entry.failed_counts = entry.failed_counts.saturating_add(1);
                entry.recount_at = now.saturating_add(pause);
            } else {
                entry.failed_counts = 0;
            }
        }
        latches
    }
}
