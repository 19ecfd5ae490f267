//! A wall clock that is set back must not delay anything.
//!
//! Deadlines are times of the wall clock, which all processes share. The first process that notices that the clock was
//! set back moves all deadlines back by as much, so what was due in ten seconds still is.
#![forbid(unsafe_code)]

use super::time::{move_time, Micros};
use super::SharedState;

/// A process may read the clock and then wait for the lock. If it is late by no more than this, the clock was not set
/// back.
const LATE: Micros = 5_000_000;

impl SharedState {
    /// Takes note of the current time.
    pub fn tick(&mut self, now: Micros) {
        let ahead = self.clock.saturating_sub(now);
        if ahead > LATE {
            self.move_back(ahead);
        }
        if !(0..=LATE).contains(&ahead) {
            self.clock = now;
        }
    }

    fn move_back(&mut self, by: Micros) {
        for (lane, _) in self.lanes.iter_mut().zip(&self.lane_keys).filter(|(_, key)| key.database != 0) {
            lane.move_back(by);
        }
        for entry in &mut self.databases {
            for time in [
                &mut entry.counter_since,
                &mut entry.recount_at,
                &mut entry.swept_at,
                &mut entry.vacated_until,
                &mut entry.restart_at,
            ] {
                move_time(time, by);
            }
        }
        for entry in self.held_back_entries_mut() {
            move_time(&mut entry.due, by);
            move_time(&mut entry.held_until, by);
            move_time(&mut entry.failed_at, by);
        }
        self.move_crash_suspects_back(by);
        for quarantine in &mut self.quarantines {
            move_time(&mut quarantine.ends_at, by);
        }
        move_time(&mut self.quarantine_ends_at, by);
        move_time(&mut self.launcher_started_at, by);
    }
}
