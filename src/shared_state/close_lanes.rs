//! Closes the lanes of indices that no longer exist or are not used, and forgets databases that no longer exist.
//!
//! A caller first copies what shared state has, then reads a catalog, and passes both in. Entries made after the copy
//! are newer than what the catalog showed, and stay.
#![forbid(unsafe_code)]

use super::{Database, Lane, LaneKey, Postponed, SharedState, SlotState, Worker, LANES, WORKERS};
use crate::claims::Holder;

/// Marks a batch whose lane has been closed.
const NO_LANE: u32 = LANES as u32;

impl SharedState {
    /// Closes all lanes of a database that no longer has the extension. However many there are, each claim table is
    /// searched once, because commits wait meanwhile.
    pub fn close_lanes(&mut self, database: u32) {
        let mut is_closed = [false; LANES];
        for (is_closed, (key, lane)) in
            is_closed.iter_mut().zip(self.lane_keys.iter_mut().zip(self.lanes.iter_mut()))
        {
            if key.database == database {
                *is_closed = true;
                *key = LaneKey { database: 0, index_id: 0 };
                *lane = Lane::EMPTY;
            }
        }
        // What the workers still hold belongs to the closed lanes. Their batches keep their entries until they return,
        // so that no other batch is mistaken for one of them.
        let mut lets_go = [false; WORKERS];
        for (lets_go, worker) in lets_go.iter_mut().zip(self.workers.iter_mut()) {
            if worker.database == database && worker.slot_state == SlotState::Running {
                *lets_go = true;
                worker.scanning_lane = 0;
                worker.scanning_held_back = 0;
                worker.postponed = Postponed::EMPTY;
                worker.batch_lane = 0;
                for flight in &mut worker.flights {
                    flight.lane = NO_LANE;
                    flight.held_back = 0;
                }
            }
        }
        let forgotten = self.forget_held_back(|entry, _| entry == database);
        self.claims.release_where(|holder, _| {
            let of_worker = || holder.as_worker().and_then(|worker| lets_go.get(worker));
            let of_held_back = || forgotten.get(holder.as_held_back()?);
            of_worker().or_else(of_held_back).copied().unwrap_or_default()
        });
        self.forget_crash_suspects(|entry, _| entry == database);
        if is_closed.contains(&true) {
            self.forget_objects(|lane| is_closed.get(lane).copied().unwrap_or_default());
        }
    }

    /// The indices of a database that have lanes.
    pub fn indices_with_lanes(&self, database: u32) -> Vec<i32> {
        self.lanes_of(database).map(|(_, index)| index).collect()
    }

    /// Closes the lanes of the indices that had one `before` the look and that it has not `found`. A lane in use by a
    /// worker is left for the next look.
    pub fn close_lanes_of_missing(&mut self, database: u32, before: &[i32], found: &[i32]) {
        let missing = before.iter().filter(|index| !found.contains(index));
        let places: Vec<usize> = missing.filter_map(|index| self.find_lane(database, *index)).collect();
        self.close_unless_in_use(&places);
    }

    /// The indices of a database that have lanes, each with the number of rows published so far.
    pub fn published(&self, database: u32) -> Vec<(i32, i64)> {
        let lanes = self.lanes_of(database);
        lanes.filter_map(|(place, index)| Some((index, self.lane(place)?.enqueued_total))).collect()
    }

    /// Closes the lanes of indices that are `unused`, unless rows have been published since the look began.
    pub fn close_lanes_of_unused(&mut self, database: u32, before: &[(i32, i64)], unused: &[i32]) {
        let places: Vec<usize> = before
            .iter()
            .filter(|(index, _)| unused.contains(index))
            .filter_map(|(index, published)| {
                let place = self.find_lane(database, *index)?;
                let lane = self.lane(place)?;
                // A paused lane stays: a commit would open it again and not know that it is paused.
                let is_still = lane.enqueued_total == *published && lane.fresh.is_empty() && !lane.paused;
                is_still.then_some(place)
            })
            .collect();
        self.close_unless_in_use(&places);
    }

    /// The databases that have an entry.
    pub fn known_databases(&self) -> Vec<u32> {
        self.databases.iter().map(|entry| entry.oid).filter(|oid| *oid != 0).collect()
    }

    /// Forgets the databases that had an entry `before` the look and that it has not `found`.
    pub fn forget_missing_databases(&mut self, before: &[u32], found: &[u32]) {
        for oid in before.iter().filter(|oid| !found.contains(oid)) {
            if !self.is_occupied(*oid) {
                self.forget_database(*oid);
            }
        }
    }

    /// Forgets a dropped database.
    pub fn forget_database(&mut self, oid: u32) {
        self.close_lanes(oid);
        for entry in self.databases.iter_mut().filter(|entry| entry.oid == oid) {
            *entry = Database::EMPTY;
        }
    }

    /// Whether a worker is reading or sending rows of this lane.
    fn is_in_use(&self, place: usize) -> bool {
        self.workers.iter().any(|worker| {
            worker.scanning_lane as usize == place + 1
                || worker.flights.iter().any(|flight| flight.rows > 0 && flight.lane as usize == place)
        })
    }

    /// Closes lanes that are not in use. The claimed objects are searched once for all of them, because commits wait
    /// meanwhile.
    fn close_unless_in_use(&mut self, places: &[usize]) {
        let (mut is_closed, mut keys) = ([false; LANES], Vec::new());
        for place in places.iter().copied() {
            if self.is_in_use(place) {
                continue;
            }
            if let (Some(key), Some(lane), Some(is_closed)) =
                (self.lane_keys.get_mut(place), self.lanes.get_mut(place), is_closed.get_mut(place))
            {
                keys.push(std::mem::replace(key, LaneKey { database: 0, index_id: 0 }));
                *lane = Lane::EMPTY;
                *is_closed = true;
            }
        }
        let is_gone =
            |database, index_id| keys.iter().any(|key| key.database == database && key.index_id == index_id);
        self.forget_crash_suspects(is_gone);
        let forgotten = self.forget_held_back(is_gone);
        if forgotten.contains(&true) {
            let is_forgotten = |holder: Holder| forgotten.get(holder.as_held_back()?).copied();
            self.claims.release_where(|holder, _| is_forgotten(holder).unwrap_or_default());
        }
        let was_closed = |place: usize| is_closed.get(place).copied().unwrap_or_default();
        self.forget_objects(was_closed);
        // The latest batch of a closed lane must not be shown as one of the lane's next owner.
        let did_last = |worker: &Worker| (worker.batch_lane as usize).checked_sub(1).is_some_and(was_closed);
        for worker in self.workers.iter_mut().filter(|worker| did_last(worker)) {
            worker.batch_lane = 0;
        }
    }
}
