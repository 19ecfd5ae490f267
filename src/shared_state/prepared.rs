//! Transactions prepared for two-phase commit, until they are committed or rolled back.
//!
//! That happens in another transaction and perhaps in another session, so shared state keeps what they queued under
//! their global identifier. If an identifier is not found, the transaction was prepared before the server started, or
//! there were too many. Then the queue is read and counted again.
#![forbid(unsafe_code)]

use super::{CommitDelta, LatchSet, Micros, Prepared, SharedState};

impl SharedState {
    /// Remembers a prepared transaction.
    pub fn prepare(&mut self, gid: u64, xid: u32, database: u32, changes: &[CommitDelta], stale: bool) {
        let free = self.prepared.iter().filter(|entry| entry.database == 0).count();
        if free < changes.len().max(1) {
            return;
        }
        let changes = if changes.is_empty() { &[CommitDelta::EMPTY] } else { changes };
        let places = self.prepared.iter_mut().filter(|entry| entry.database == 0);
        for (place, change) in places.zip(changes) {
            *place = Prepared { gid, database, xid, stale, change: *change };
        }
    }

    /// A prepared transaction was committed: publishes its rows.
    pub fn commit_prepared(&mut self, gid: u64, database: u32, now: Micros) -> LatchSet {
        let found = self.take_prepared(gid, database);
        let Some(stale) = found.first().map(|entry| entry.stale) else {
            return self.read_again(database);
        };
        let looking = if stale { self.extension_changed(database) } else { LatchSet::default() };
        let changes: Vec<CommitDelta> =
            found.into_iter().map(|entry| entry.change).filter(|change| change.index_id != 0).collect();
        looking.and(self.publish(database, &changes, now))
    }

    /// A prepared transaction was rolled back.
    pub fn rollback_prepared(&mut self, gid: u64, database: u32) {
        self.take_prepared(gid, database);
    }

    fn take_prepared(&mut self, gid: u64, database: u32) -> Vec<Prepared> {
        let mine = |entry: &&mut Prepared| entry.gid == gid && entry.database == database;
        let taken = self.prepared.iter_mut().filter(mine).map(|entry| {
            let found = *entry;
            entry.database = 0;
            found
        });
        taken.collect()
    }

    /// Rows of unknown number and place have been added to the queue. The counters are wrong until the next count.
    pub fn read_again(&mut self, database: u32) -> LatchSet {
        let places: Vec<usize> = self.lanes_of(database).map(|(place, _)| place).collect();
        for place in places {
            self.lane_at(place).into_iter().for_each(|lane| lane.counted = false);
        }
        self.sweep(database, true).and(self.outdate_count(database)).and(self.extension_changed(database))
    }
}
