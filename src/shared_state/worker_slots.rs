//! Workers' slots: which worker serves which database, how a slot is taken and released, and whom to wake.
#![forbid(unsafe_code)]

use super::{CommitDelta, LatchSet, Micros, ReadyWork, SharedState, SlotState, Worker, WORKERS};

/// How a worker's process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerExit {
    /// It had nothing to do any more.
    Orderly,
    /// Somebody has asked for it.
    Terminated,
    /// An error.
    Failed,
}

impl SharedState {
    /// Notes that the launcher has to look again; the address of its latch.
    pub(super) fn call_launcher(&mut self) -> u64 {
        self.launcher_called = true;
        self.launcher_latch
    }

    /// Has the launcher look at the databases.
    pub fn wake_launcher(&mut self) -> LatchSet {
        let mut latches = LatchSet::default();
        latches.add(self.call_launcher());
        latches
    }

    /// Asks for a count of the tables of a database.
    pub fn request_recount(&mut self, oid: u32) {
        if let Some(database) = self.database_mut(oid) {
            database.recount = true;
        }
    }

    /// Wakes one worker that has room for what has been queued. A busy one looks by itself as soon as it has room again.
    pub fn wake_one(&mut self, database: u32, changes: &[CommitDelta]) -> LatchSet {
        let mut latches = LatchSet::default();
        let mut wake = |worker: &mut Worker| {
            worker.mark_awake();
            latches.add(worker.latch);
        };
        if let Some(worker) = self.workers_of(database).find(|worker| worker.is_free()) {
            wake(worker);
            return latches;
        }
        for change in changes.iter().filter(|change| change.queued > 0) {
            let Some(lane) = self.find_lane(database, change.index_id) else { continue };
            if let Some(worker) = self.workers_of(database).find(|worker| worker.has_room_for(lane)) {
                wake(worker);
                break;
            }
        }
        latches
    }

    /// Wakes a worker other than `worker` that has room for one of the kinds that are `left`. It is woken for nothing
    /// else, so that workers never wake each other in circles.
    pub(super) fn wake_another(&mut self, database: u32, worker: usize, left: ReadyWork) -> Option<u64> {
        if !left.any() {
            return None;
        }
        let scheduler = self.workers.iter_mut().take(self.workers_ever_used as usize).enumerate();
        let mut others = scheduler.filter(|(slot, other)| *slot != worker && other.database == database);
        let fits = |other: &Worker| !other.retire && other.capacity.intersects(left);
        let (_, other) = others.find(|(_, other)| other.slot_state == SlotState::Running && fits(other))?;
        other.mark_awake();
        Some(other.latch)
    }

    /// Workers of a database, running or about to.
    pub fn workers_of(&mut self, database: u32) -> impl Iterator<Item = &mut Worker> {
        // Commits come by here, so slots nobody has ever had are left alone: each is some pages of memory.
        self.workers
            .iter_mut()
            .take(self.workers_ever_used as usize)
            .filter(move |w| w.slot_state != SlotState::Free && w.database == database)
    }

    /// Reserves a slot for a worker about to be started; returns the slot and the launch's number.
    pub fn reserve_slot(&mut self, database: u32, number: u32) -> Option<(usize, u32)> {
        let slot = self.workers.iter().take(WORKERS).position(|w| w.slot_state == SlotState::Free)?;
        self.launches = self.launches.wrapping_add(1);
        let launch = self.launches;
        self.workers_ever_used = self.workers_ever_used.max(slot as u32 + 1);
        let worker = self.workers.get_mut(slot)?;
        *worker = Worker { slot_state: SlotState::Starting, database, number, launch, ..Worker::EMPTY };
        Some((slot, launch))
    }

    /// A started process takes the slot that was reserved for it; `false` when it was given up meanwhile.
    pub fn attach_worker(&mut self, slot: usize, launch: u32, pid: i32, latch: u64, now: Micros) -> bool {
        match self.workers.get_mut(slot) {
            Some(worker) if worker.slot_state == SlotState::Starting && worker.launch == launch => {
                worker.slot_state = SlotState::Running;
                worker.pid = pid;
                worker.latch = latch;
                worker.started_at = now;
                worker.stale = true;
                true
            }
            _ => false,
        }
    }

    /// Gives up a slot whose process never came.
    pub fn cancel_slot(&mut self, slot: usize, launch: u32) {
        if let Some(worker) = self.workers.get_mut(slot) {
            if worker.slot_state == SlotState::Starting && worker.launch == launch {
                *worker = Worker::EMPTY;
            }
        }
    }
}

impl SharedState {
    /// A worker's process ends: what it held waits again. Another is started a second after somebody has terminated it,
    /// at once after an orderly end. A failure delays the next start, doubling from a second
    /// to a minute; an orderly end, or a minute of health, makes up for it. Workers that end together, as those do
    /// whose database somebody has terminated sessions of, are one failure and not a loop. Its objects are held for
    /// `quarantine`.
    pub fn worker_exited(
        &mut self,
        slot: usize,
        exit: WorkerExit,
        quarantine: Micros,
        now: Micros,
    ) -> LatchSet {
        const SECOND: Micros = 1_000_000;
        let mut latches = LatchSet::default();
        let Some(worker) = self.workers.get(slot) else {
            return latches;
        };
        let (database, started_at) = (worker.database, worker.started_at);
        let healthy = now.saturating_sub(started_at) > 60 * SECOND;
        self.release_worker(slot, now.saturating_add(quarantine));
        if let Some(entry) = self.database_mut(database) {
            // It was there already when the start was put off that is still to come.
            let counts_already = entry.crashes > 0 && started_at < entry.restart_at && now < entry.restart_at;
            match exit {
                WorkerExit::Orderly => entry.crashes = 0,
                // Whoever asked for it may do so again: the failures before count, this is none.
                WorkerExit::Terminated => entry.restart_at = entry.restart_at.max(now.saturating_add(SECOND)),
                WorkerExit::Failed if counts_already => (),
                WorkerExit::Failed => {
                    entry.crashes = if healthy { 1 } else { entry.crashes.saturating_add(1) };
                    let delay = (SECOND << (entry.crashes - 1).min(6)).min(60 * SECOND);
                    entry.restart_at = now.saturating_add(delay);
                }
            }
        }
        latches.add(self.call_launcher());
        // Another worker takes over what this one held.
        if let Some(other) = self.workers_of(database).find(|worker| worker.is_free()) {
            other.mark_awake();
            latches.add(other.latch);
        }
        latches
    }
}

impl SharedState {
    /// Has the workers of a database whose number is `wanted` or more retire. One that stays has a look at what they may
    /// have been woken for.
    pub fn retire_workers(&mut self, database: u32, wanted: u32) -> LatchSet {
        let mut latches = LatchSet::default();
        for slot in 0..WORKERS {
            let is_meant = |worker: &Worker| {
                worker.slot_state != SlotState::Free
                    && worker.database == database
                    && worker.number >= wanted
                    && !worker.retire
            };
            let Some(worker) = self.workers.get_mut(slot).filter(|worker| is_meant(worker)) else { continue };
            worker.retire = true;
            latches.add(worker.latch);
            self.wait_for_no_batch_of(slot);
        }
        if latches != LatchSet::default() {
            if let Some(other) = self.workers_of(database).find(|worker| worker.is_free()) {
                other.mark_awake();
                latches.add(other.latch);
            }
        }
        latches
    }
}
