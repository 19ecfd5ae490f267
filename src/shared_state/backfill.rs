//! Starting, waking and ending the process that sends history and makes repairs: at most one per database, while there
//! is work for it.
//!
//! The tables say whether there is work. Shared state only says whether somebody has to look.
#![forbid(unsafe_code)]

use super::{Backfiller, BackfillerExit, CommitDelta, Extension, LatchSet, Micros, SharedState};

/// How long after a crash it is started again; twice as long each time, up to a minute.
const RESTART_PAUSE: Micros = 1_000_000;
const LONGEST_RESTART_PAUSE: Micros = 60_000_000;

impl SharedState {
    /// Who sends the history of a database; a copy.
    pub fn backfiller(&self, database: u32) -> Backfiller {
        let entry = self.databases.iter().find(|entry| entry.oid == database);
        entry.map_or(Backfiller::EMPTY, |entry| entry.backfiller)
    }

    /// Somebody has to look whether there is history to send: the process that is there, or one to be started.
    pub fn request_backfill(&mut self, database: u32) -> LatchSet {
        let mut latches = self.wake_launcher();
        if let Some(entry) = self.database_mut(database) {
            entry.backfiller.wanted = true;
            if entry.backfiller.latch != 0 {
                latches = LatchSet::of(Some(entry.backfiller.latch));
            }
        }
        latches
    }

    /// Rows could not be captured: whoever repairs them has to look, or is to be started.
    pub fn request_repair(&mut self, database: u32) -> LatchSet {
        let mut latches = self.wake_launcher();
        if let Some(entry) = self.database_mut(database) {
            entry.backfiller.repairs = true;
            if entry.backfiller.latch != 0 {
                latches = LatchSet::of(Some(entry.backfiller.latch));
            }
        }
        latches
    }

    /// There are no repairs any more. If the counters say otherwise, somebody has deleted some by hand: they are counted.
    pub fn end_repairs(&mut self, database: u32) -> LatchSet {
        let lanes: Vec<usize> = self.lanes_of(database).map(|(place, _)| place).collect();
        let is_miscounted =
            lanes.iter().any(|place| self.lane(*place).is_some_and(|lane| lane.counted && lane.repairs > 0));
        if !is_miscounted {
            return LatchSet::default();
        }
        self.request_recount(database);
        self.wake_launcher()
    }

    /// Whether a process is to be started now; the one who is told so does it.
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

    /// The process could not be started: there was no room for it.
    pub fn backfiller_not_started(&mut self, database: u32, until: Micros) {
        if let Some(entry) = self.database_mut(database).filter(|entry| entry.backfiller.pid == -1) {
            entry.backfiller.pid = 0;
            entry.backfiller.restart_at = until;
        }
    }

    /// The process has come; `false` when it is not to stay, because another is there or somebody wants the database.
    pub fn attach_backfiller(&mut self, database: u32, pid: i32, latch: u64, now: Micros) -> bool {
        let Some(entry) = self.database_mut(database) else { return false };
        if entry.backfiller.pid > 0 {
            return false;
        }
        entry.backfiller = Backfiller { pid, latch, since: now, low_water: 0, ..entry.backfiller };
        !entry.is_vacated(now)
    }

    /// The process is about to look what there is to do. What is asked for from now on, it is told of again.
    pub fn take_backfill_request(&mut self, database: u32) -> bool {
        let entry = self.database_mut(database);
        entry.is_some_and(|entry| std::mem::take(&mut entry.backfiller.wanted))
    }

    /// Whether there are repairs that nobody has looked at yet; whoever asks is about to.
    pub fn take_repair_request(&mut self, database: u32) -> bool {
        let entry = self.database_mut(database);
        entry.is_some_and(|entry| std::mem::take(&mut entry.backfiller.repairs))
    }

    /// The process wants to be woken when an index has no more than so many rows waiting.
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

    /// Below how many waiting rows the process that sends history is to be woken. Whoever only adds rows wakes nobody.
    pub(super) fn low_water(&self, database: u32, changes: &[CommitDelta]) -> i64 {
        match changes.iter().any(|change| change.removed > 0) {
            true => self.backfiller(database).low_water,
            false => 0,
        }
    }
}
