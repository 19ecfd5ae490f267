//! Rows that are counted but not known to any span: when lanes are read again, and when tables are counted again.
#![forbid(unsafe_code)]

use super::{LaneKey, LatchSet, Micros, SharedState, Worker, LANES};

impl SharedState {
    /// Ends the backoffs of a database, because the cause of failures may have been fixed.
    pub fn retry_all(&mut self, database: u32, now: Micros) {
        for place in 0..LANES {
            if self.lane_key(place).is_some_and(|key| key.database == database) {
                if let Some(lane) = self.lane_at(place) {
                    lane.retry_now(now);
                }
            }
        }
    }

    /// Whether the whole queue is to be read now. If so, the caller must do it.
    pub fn is_sweep_due(&mut self, database: u32, every: Micros, now: Micros) -> bool {
        let Some(entry) = self.database_mut(database) else {
            return false;
        };
        let is_due = entry.swept_at != 0 && now.saturating_sub(entry.swept_at) >= every;
        if is_due || entry.swept_at == 0 {
            entry.swept_at = now;
        }
        is_due
    }

    /// Whether the counters of a database must be wrong: rows are counted but nobody knows where they are, or more rows
    /// are held than counted.
    pub fn is_miscounted(&self, database: u32) -> bool {
        self.lanes_of(database).any(|(place, index_id)| {
            let key = LaneKey { database, index_id };
            self.lane(place).is_some_and(|lane| lane.counted)
                && (self.is_losing_rows(place, key) || self.has_too_many(place, key))
        })
    }

    /// Whether a lane counts more rows than are known anywhere.
    fn is_losing_rows(&self, place: usize, key: LaneKey) -> bool {
        let Some(lane) = self.lane(place).filter(|lane| lane.queued > lane.in_flight) else {
            return false;
        };
        let is_known = !(lane.deferred.is_empty() && lane.fresh.is_empty() && lane.backlog.is_empty())
            || self.has_crash_suspects_in(key);
        let is_read = || {
            let reads = |worker: &Worker| {
                worker.scanning_lane as usize == place + 1
                    || (worker.postponed.lane as usize == place && !worker.postponed.rows.is_empty())
            };
            self.workers.iter().any(reads)
        };
        !is_known
            && !is_read()
            && lane.queued > lane.in_flight + self.held_back_waiting(key.database, key.index_id)
    }

    /// Whether more rows of a lane are held than counted.
    fn has_too_many(&self, place: usize, key: LaneKey) -> bool {
        let waiting = || self.held_back_waiting(key.database, key.index_id);
        self.lane(place).is_some_and(|lane| lane.queued < lane.in_flight + waiting())
    }

    /// Reads lanes again that count rows which are not known anywhere, or all lanes. A count then shows whether rows
    /// were removed by hand or more were added than counted: unannounced rows, such as those inserted by hand, are
    /// subtracted from the counter when they are delivered.
    pub fn sweep(&mut self, database: u32, everything: bool) -> LatchSet {
        let mut any_off = false;
        for place in 0..LANES {
            if let Some(key) = self.lane_key(place).filter(|key| key.database == database) {
                let (lost, has_too_many) = (self.is_losing_rows(place, key), self.has_too_many(place, key));
                if let Some(lane) = self.lane_at(place) {
                    any_off |= lost || has_too_many;
                    if everything || lost {
                        lane.sweep();
                    }
                }
            }
        }
        match any_off {
            true => self.request_recount(database),
            false => LatchSet::default(),
        }
    }

    /// Requests a count of the tables if a lane has not been counted.
    pub fn request_count_if_needed(&mut self, database: u32) -> LatchSet {
        let uncounted = (0..LANES).any(|place| {
            self.lane_key(place).is_some_and(|key| key.database == database)
                && self.lane(place).is_some_and(|lane| !lane.counted)
        });
        match uncounted {
            true => self.request_recount(database),
            false => LatchSet::default(),
        }
    }
}
