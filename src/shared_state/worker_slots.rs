//! Workers' slots: which worker serves which database, how a slot is taken and released, and whom to wake.
#![forbid(unsafe_code)]

use super::{CommitDelta, LatchSet, Micros, ReadyWork, SharedState, SlotState, Worker, WORKERS};

/// How a worker's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerExit {
    /// It had nothing left to do.
    Orderly,
    /// Somebody terminated it.
    Terminated,
    /// An error.
    Failed,
}

impl SharedState {
    /// Asks the launcher to look at the databases.
    pub fn wake_launcher(&mut self) -> LatchSet {
        self.launcher_called = true;
        LatchSet::of(self.launcher_latch)
    }

    /// Asks for a count of the tables of a database.
    pub fn request_recount(&mut self, oid: u32) -> LatchSet {
        if let Some(database) = self.database_mut(oid) {
            database.recount = true;
        }
        self.wake_launcher()
    }

    /// Wakes one worker that has room for the queued rows. A busy worker looks by itself as soon as it has room.
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

    /// Wakes a worker other than `worker` that has room for one of the kinds in `left`. It is woken for nothing else,
    /// so workers never wake each other in circles.
    pub(super) fn wake_another(&mut self, database: u32, worker: usize, left: ReadyWork) -> Option<u64> {
        if !left.any() {
            return None;
        }
        let slots = self.workers.iter_mut().take(self.workers_ever_used as usize).enumerate();
        let mut others = slots.filter(|(slot, other)| *slot != worker && other.database == database);
        let fits = |other: &Worker| !other.retire && other.capacity.intersects(left);
        let (_, other) = others.find(|(_, other)| other.slot_state == SlotState::Running && fits(other))?;
        other.mark_awake();
        Some(other.latch)
    }

    /// The workers of a database that run or are being started.
    pub fn workers_of(&mut self, database: u32) -> impl Iterator<Item = &mut Worker> {
        // Commits call this, so slots that were never used are not touched: each is several pages of memory.
        self.workers
            .iter_mut()
            .take(self.workers_ever_used as usize)
            .filter(move |w| w.slot_state != SlotState::Free && w.database == database)
    }

    /// Reserves a slot for a worker that is about to be started. Returns the slot and the launch number.
    pub fn reserve_slot(&mut self, database: u32, number: u32) -> Option<(usize, u32)> {
        let slot = self.workers.iter().take(WORKERS).position(|w| w.slot_state == SlotState::Free)?;
        self.launches = self.launches.wrapping_add(1);
        let launch = self.launches;
        self.workers_ever_used = self.workers_ever_used.max(slot as u32 + 1);
        let worker = self.workers.get_mut(slot)?;
        *worker = Worker { slot_state: SlotState::Starting, database, number, launch, ..Worker::EMPTY };
        Some((slot, launch))
    }

    /// A started process takes its slot; `false` if the launch was given up meanwhile.
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

    /// Gives up a slot whose process has not started.
    pub fn cancel_slot(&mut self, slot: usize, launch: u32) {
        if let Some(worker) = self.workers.get_mut(slot) {
            if worker.slot_state == SlotState::Starting && worker.launch == launch {
                *worker = Worker::EMPTY;
            }
        }
    }
}

impl SharedState {
    /// A worker's process has ended: what it held waits again, and its objects are held for `quarantine`. After an
    /// orderly end, another worker is started at once; after a termination, a second later; after a failure, a second
    /// to a minute later, doubling each time. An orderly end or a minute of health resets that delay. Workers that fail
    /// together, for example because somebody terminated all sessions of a database, count as one failure.
    pub fn worker_exited(
        &mut self,
        slot: usize,
        exit: WorkerExit,
        quarantine: Micros,
        now: Micros,
    ) -> LatchSet {
        const SECOND: Micros = 1_000_000;
        let Some(worker) = self.workers.get(slot) else { return LatchSet::default() };
        let (database, started_at) = (worker.database, worker.started_at);
        let healthy = now.saturating_sub(started_at) > 60 * SECOND;
        self.release_worker(slot, now.saturating_add(quarantine));
        if let Some(entry) = self.database_mut(database) {
            // It was already running when the pending start was delayed.
            let counts_already = entry.crashes > 0 && started_at < entry.restart_at && now < entry.restart_at;
            match exit {
                WorkerExit::Orderly => entry.crashes = 0,
                // Somebody may terminate the next one as well: earlier failures count, but this is none.
                WorkerExit::Terminated => entry.restart_at = entry.restart_at.max(now.saturating_add(SECOND)),
                WorkerExit::Failed if counts_already => (),
                WorkerExit::Failed => {
                    entry.crashes = if healthy { 1 } else { entry.crashes.saturating_add(1) };
                    let delay = (SECOND << (entry.crashes - 1).min(6)).min(60 * SECOND);
                    entry.restart_at = now.saturating_add(delay);
                }
            }
        }
        let mut latches = self.wake_launcher();
        // Another worker takes over what this one held.
        if let Some(other) = self.workers_of(database).find(|worker| worker.is_free()) {
            other.mark_awake();
            latches.add(other.latch);
        }
        latches
    }
}

impl SharedState {
    /// Retires the workers of a database whose numbers are `wanted` or more. One that stays looks for what they may
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
