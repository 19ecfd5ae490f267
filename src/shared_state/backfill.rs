//! Starting, waking and ending the process that sends history and makes repairs: at most one per database, while there
//! is work for it.
//!
//! The tables say whether there is work. Shared state only says whether somebody has to look.
#![forbid(unsafe_code)]

use super::{Backfiller, BackfillerExit, CommitDelta, Extension, LatchSet, Micros, SharedState};

/// The pause before a restart after a crash. It doubles each time, up to a minute.
const RESTART_PAUSE: Micros = 1_000_000;
const LONGEST_RESTART_PAUSE: Micros = 60_000_000;

impl SharedState {
    /// A copy of the state of a database's backfill process.
    pub fn backfiller(&self, database: u32) -> Backfiller {
        let entry = self.databases.iter().find(|entry| entry.oid == database);
        entry.map_or(Backfiller::EMPTY, |entry| entry.backfiller)
    }

    /// Asks the backfill process to look for work: wakes it, or has it started.
    pub fn request_backfill(&mut self, database: u32) -> LatchSet {
        self.request_of_backfiller(database, |backfiller| backfiller.wanted = true)
    }

    /// Asks the backfill process to look for repairs: wakes it, or has it started.
    pub fn request_repair(&mut self, database: u32) -> LatchSet {
        self.request_of_backfiller(database, |backfiller| backfiller.repairs = true)
    }

    fn request_of_backfiller(&mut self, database: u32, request: impl FnOnce(&mut Backfiller)) -> LatchSet {
        let launcher = self.wake_launcher();
        let Some(entry) = self.database_mut(database) else { return launcher };
        request(&mut entry.backfiller);
        match entry.backfiller.latch {
            0 => launcher,
            latch => LatchSet::of(latch),
        }
    }

    /// There are no repairs left. If the counters disagree, somebody has deleted repairs by hand, so a count is
    /// requested.
    pub fn end_repairs(&mut self, database: u32) -> LatchSet {
        let lanes: Vec<usize> = self.lanes_of(database).map(|(place, _)| place).collect();
        let is_miscounted =
            lanes.iter().any(|place| self.lane(*place).is_some_and(|lane| lane.counted && lane.repairs > 0));
        if !is_miscounted {
            return LatchSet::default();
        }
        self.request_recount(database)
    }

    /// Whether a process is to be started now. If so, the caller must start it.
    pub fn should_start_backfiller(&mut self, database: u32, now: Micros) -> bool {
        let Some(entry) = self.database_mut(database) else { return false };
        let is_due = entry.backfiller.starts_at().is_some_and(|at| at <= now)
            && entry.extension == Extension::Present
            && !entry.is_vacated(now);
        if is_due {
            entry.backfiller = Backfiller { pid: -1, since: now, latch: 0, ..entry.backfiller };
        }
        is_due
    }

    /// The process could not be started, because there was no free background worker.
    pub fn backfiller_not_started(&mut self, database: u32, until: Micros) {
        if let Some(entry) = self.database_mut(database).filter(|entry| entry.backfiller.pid == -1) {
            entry.backfiller.pid = 0;
            entry.backfiller.restart_at = until;
        }
    }

    /// The process has started. `false`: it must end, because another one exists or the database is being vacated.
    pub fn attach_backfiller(&mut self, database: u32, pid: i32, latch: u64, now: Micros) -> bool {
        let Some(entry) = self.database_mut(database) else { return false };
        if entry.backfiller.pid > 0 {
            return false;
        }
        entry.backfiller = Backfiller { pid, latch, since: now, low_water: 0, ..entry.backfiller };
        !entry.is_vacated(now)
    }

    /// Whether there may be a backfill that has not been looked at. The caller is about to look; later requests count
    /// again.
    pub fn take_backfill_request(&mut self, database: u32) -> bool {
        let entry = self.database_mut(database);
        entry.is_some_and(|entry| std::mem::take(&mut entry.backfiller.wanted))
    }

    /// Whether there may be repairs that have not been looked at. The caller is about to look.
    pub fn take_repair_request(&mut self, database: u32) -> bool {
        let entry = self.database_mut(database);
        entry.is_some_and(|entry| std::mem::take(&mut entry.backfiller.repairs))
    }

    /// Asks to be woken when the queue of an index has fallen to `low_water` rows.
    pub fn set_low_water(&mut self, database: u32, low_water: i64) {
        if let Some(entry) = self.database_mut(database) {
            entry.backfiller.low_water = low_water;
        }
    }

    /// The process `pid` has ended.
    pub fn backfiller_exited(
        &mut self,
        database: u32,
        pid: i32,
        exit: BackfillerExit,
        now: Micros,
    ) -> LatchSet {
        let latches = self.wake_launcher();
        let Some(entry) = self.database_mut(database) else { return latches };
        let gone = &mut entry.backfiller;
        if gone.pid == pid {
            let was_healthy = now.saturating_sub(gone.since) > LONGEST_RESTART_PAUSE;
            let crashes = match (exit, was_healthy) {
                (BackfillerExit::Done | BackfillerExit::Stopped, _) => 0,
                (BackfillerExit::Failed, true) => 1,
                (BackfillerExit::Failed, false) => gone.crashes.saturating_add(1),
            };
            let pause = match crashes {
                0 => 0,
                some => (RESTART_PAUSE << (some - 1).min(6)).min(LONGEST_RESTART_PAUSE),
            };
            *gone = Backfiller {
                wanted: gone.wanted || exit != BackfillerExit::Done,
                repairs: gone.repairs,
                crashes,
                restart_at: now.saturating_add(pause),
                ..Backfiller::EMPTY
            };
        }
        latches
    }

    /// The queue length at which the backfill process is to be woken, for a transaction that removed rows. Others wake
    /// nobody.
    pub(super) fn low_water(&self, database: u32, changes: &[CommitDelta]) -> i64 {
        match changes.iter().any(|change| change.removed > 0) {
            true => self.backfiller(database).low_water,
            false => 0,
        }
    }
}
