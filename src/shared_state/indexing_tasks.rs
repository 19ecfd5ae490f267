//! The latest indexing task of each index. When Algolia has published it, the index has everything that was delivered
//! before.
#![forbid(unsafe_code)]

use super::{LaneKey, SharedState, LANES};

impl SharedState {
    /// Records where the deliveries of a database go. If that changes, the known tasks are forgotten: they mean nothing
    /// at another destination, whose task numbers may be lower.
    pub fn set_destination(&mut self, database: u32, destination: u64) {
        let is_news = |entry: &&mut super::Database| entry.destination != destination;
        let Some(entry) = self.database_mut(database).filter(is_news) else { return };
        entry.destination = destination;
        let lanes = self.lane_keys.iter().zip(&mut self.lanes).take(LANES);
        for (_, lane) in lanes.filter(|(LaneKey { database: owner, .. }, _)| *owner == database) {
            lane.last_task = 0;
        }
    }

    /// Records the indexing task after which the rows of a batch are in the index. This comes before the rows are
    /// deleted, so whoever no longer finds them in the queue knows the task. Ignores a worker that does not know yet
    /// that the destination has changed.
    pub fn note_task(&mut self, worker: usize, flight: usize, task: i64, destination: u64) {
        let Some(database) = self.workers.get(worker).map(|me| me.database) else { return };
        if !self.databases.iter().any(|one| one.oid == database && one.destination == destination) {
            return;
        }
        let lane = self.lane_of_flight(worker, flight).and_then(|lane| self.lane_at(lane));
        if let Some(lane) = lane {
            lane.last_task = lane.last_task.max(task);
        }
    }

    /// The latest task of an index at a destination, if one is known.
    pub fn last_task(&self, database: u32, index_id: i32, destination: u64) -> Option<i64> {
        self.databases.iter().find(|one| one.oid == database && one.destination == destination)?;
        let lane = self.lane(self.find_lane(database, index_id)?)?;
        (lane.last_task != 0).then_some(lane.last_task)
    }
}
