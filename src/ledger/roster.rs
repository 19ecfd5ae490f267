//! Who serves which database: the launcher's book, and whom to wake.
#![forbid(unsafe_code)]

use super::{Backfiller, Change, Kinds, Ledger, Micros, Stage, Worker, WORKERS};

/// Databases the launcher can keep an eye on.
pub const DATABASES: usize = 256;

/// What is known about the extension in a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Extension {
    /// Nobody has looked since the server started, or something has changed since.
    #[default]
    Unknown,
    Absent,
    Present,
}

/// A database of the server. All zeroes is a free entry.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Database {
    /// The database's oid; 0 marks a free entry.
    pub oid: u32,
    pub extension: Extension,
    /// The oid of the extension whose indices have lanes here; 0 when there is none or nobody has looked.
    pub extension_oid: u32,
    /// A count of the tables is wanted: the counters may be off.
    pub recount: bool,
    /// The process that counts; 0 while none does, -1 while one is awaited.
    pub counter: i32,
    /// Since when a counting process is awaited.
    pub counter_since: Micros,
    /// No count is started before this time.
    pub recount_at: Micros,
    /// Counts that were not finished, one after the other.
    pub failed_counts: u32,
    /// When the whole queue was last looked through.
    pub swept_at: Micros,
    /// Statements that want the database to themselves: no worker is started while there are any.
    pub holders: u32,
    /// The statements have been forgotten if they have not ended by then.
    pub held_until: Micros,
    /// Workers that ended in failure one after the other.
    pub crashes: u32,
    /// No worker is started before this time.
    pub restart_at: Micros,
    /// The process that sends history.
    pub backfiller: Backfiller,
}

/// Latches to set once the ledger's lock is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wakes {
    latches: [u64; WORKERS + 3],
    count: usize,
}

impl Default for Wakes {
    fn default() -> Wakes {
        Wakes { latches: [0; WORKERS + 3], count: 0 }
    }
}

impl Wakes {
    /// Adds a latch. There is room for those of all workers, of the launcher and of who sends history.
    pub fn add(&mut self, latch: u64) {
        if latch != 0 {
            if let Some(free) = self.latches.get_mut(self.count) {
                *free = latch;
                self.count += 1;
            }
        }
    }

    /// One latch, or none.
    pub fn of(latch: Option<u64>) -> Wakes {
        let mut wakes = Wakes::default();
        wakes.add(latch.unwrap_or_default());
        wakes
    }

    /// These and those.
    pub fn and(mut self, others: Wakes) -> Wakes {
        for latch in others.iter().filter(|latch| !self.iter().any(|mine| mine == *latch)).collect::<Vec<_>>()
        {
            self.add(latch);
        }
        self
    }

    /// The addresses to set.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.latches.iter().take(self.count).copied()
    }
}

impl Ledger {
    /// The entry of a database, made when it is new; `None` when the book is full.
    pub fn database_mut(&mut self, oid: u32) -> Option<&mut Database> {
        let place = self
            .databases
            .iter()
            .position(|d| d.oid == oid)
            .or_else(|| self.databases.iter().position(|d| d.oid == 0))?;
        let entry = self.databases.get_mut(place)?;
        entry.oid = oid;
        Some(entry)
    }

    /// Has the launcher look at the databases.
    pub fn wake_launcher(&self) -> Wakes {
        let mut wakes = Wakes::default();
        wakes.add(self.launcher_latch);
        wakes
    }

    /// Asks for a count of the tables of a database.
    pub fn request_recount(&mut self, oid: u32) {
        if let Some(database) = self.database_mut(oid) {
            database.recount = true;
        }
    }

    /// Wakes one worker that has room for what has been queued. A busy one looks by itself as soon as it has room again.
    pub fn wake_one(&mut self, database: u32, changes: &[Change]) -> Wakes {
        let mut wakes = Wakes::default();
        let mut wake = |worker: &mut Worker| {
            worker.awake();
            wakes.add(worker.latch);
        };
        if let Some(worker) = self.workers_of(database).find(|worker| worker.is_free()) {
            wake(worker);
            return wakes;
        }
        for change in changes.iter().filter(|change| change.queued > 0) {
            let Some(lane) = self.find_lane(database, change.index_id) else { continue };
            if let Some(worker) = self.workers_of(database).find(|worker| worker.has_room_for(lane)) {
                wake(worker);
                break;
            }
        }
        wakes
    }

    /// Wakes a worker other than `worker` that has room for one of the kinds that are `left`. It is woken for nothing
    /// else, so that workers never wake each other in circles.
    pub(super) fn wake_another(&mut self, database: u32, worker: usize, left: Kinds) -> Option<u64> {
        if !left.any() {
            return None;
        }
        let crew = self.workers.iter_mut().take(self.workers_ever_used as usize).enumerate();
        let mut others = crew.filter(|(slot, other)| *slot != worker && other.database == database);
        let fits = |other: &Worker| !other.retire && other.room.meet(left);
        let (_, other) = others.find(|(_, other)| other.stage == Stage::Running && fits(other))?;
        other.awake();
        Some(other.latch)
    }

    /// Asks all workers of a database to leave, and keeps new ones away until `until`.
    pub fn hold(&mut self, database: u32, until: Micros) -> Wakes {
        if let Some(entry) = self.database_mut(database) {
            entry.holders = entry.holders.saturating_add(1);
            entry.held_until = until;
        }
        let mut wakes = Wakes::default();
        wakes.add(self.backfiller(database).latch);
        for worker in self.workers_of(database) {
            worker.leave = true;
            wakes.add(worker.latch);
        }
        wakes
    }

    /// Whether somebody wants the database to itself.
    pub fn is_held(&self, database: u32, now: Micros) -> bool {
        self.databases.iter().any(|entry| entry.oid == database && entry.is_held(now))
    }

    /// Workers of a database, running or about to.
    pub fn workers_of(&mut self, database: u32) -> impl Iterator<Item = &mut Worker> {
        // Commits come by here, so slots nobody has ever had are left alone: each is some pages of memory.
        self.workers
            .iter_mut()
            .take(self.workers_ever_used as usize)
            .filter(move |w| w.stage != Stage::Free && w.database == database)
    }

    /// Reserves a slot for a worker about to be started; returns the slot and the launch's number.
    pub fn enlist(&mut self, database: u32, number: u32) -> Option<(usize, u32)> {
        let slot = self.workers.iter().take(WORKERS).position(|w| w.stage == Stage::Free)?;
        self.launches = self.launches.wrapping_add(1);
        let launch = self.launches;
        self.workers_ever_used = self.workers_ever_used.max(slot as u32 + 1);
        let worker = self.workers.get_mut(slot)?;
        *worker = Worker { stage: Stage::Starting, database, number, launch, ..Worker::EMPTY };
        Some((slot, launch))
    }

    /// A started process takes the slot that was reserved for it; `false` when it was given up meanwhile.
    pub fn report_for_duty(&mut self, slot: usize, launch: u32, pid: i32, latch: u64, now: Micros) -> bool {
        match self.workers.get_mut(slot) {
            Some(worker) if worker.stage == Stage::Starting && worker.launch == launch => {
                worker.stage = Stage::Running;
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
    pub fn give_up(&mut self, slot: usize, launch: u32) {
        if let Some(worker) = self.workers.get_mut(slot) {
            if worker.stage == Stage::Starting && worker.launch == launch {
                *worker = Worker::EMPTY;
            }
        }
    }
}

impl Ledger {
    /// A worker's process ends: what it held waits again. A failure delays the next start, doubling from a second
    /// to a minute; an orderly end, or a minute of health, makes up for it. Workers that end together, as those do
    /// whose database somebody has terminated sessions of, are one failure and not a loop.
    pub fn leave(&mut self, slot: usize, failed: bool, now: Micros) -> Wakes {
        const SECOND: Micros = 1_000_000;
        let mut wakes = Wakes::default();
        let Some(worker) = self.workers.get(slot) else {
            return wakes;
        };
        let (database, started_at) = (worker.database, worker.started_at);
        let healthy = now.saturating_sub(started_at) > 60 * SECOND;
        self.resign(slot);
        if let Some(entry) = self.database_mut(database) {
            // It was there already when the start was put off that is still to come.
            let counts_already = entry.crashes > 0 && started_at < entry.restart_at && now < entry.restart_at;
            if !failed {
                entry.crashes = 0;
            } else if !counts_already {
                entry.crashes = if healthy { 1 } else { entry.crashes.saturating_add(1) };
                let delay = (SECOND << (entry.crashes - 1).min(6)).min(60 * SECOND);
                entry.restart_at = now.saturating_add(delay);
            }
        }
        wakes.add(self.launcher_latch);
        // Another worker takes over what this one held.
        if let Some(other) = self.workers_of(database).find(|worker| worker.is_free()) {
            other.awake();
            wakes.add(other.latch);
        }
        wakes
    }
}

impl Ledger {
    /// Forgets the backoffs of a database: what kept it from delivering may have been mended.
    pub fn retry_all(&mut self, database: u32) {
        for place in 0..super::LANES {
            if self.lane_key(place).is_some_and(|key| key.database == database) {
                if let Some(lane) = self.lane_at(place) {
                    lane.retry_now();
                }
            }
        }
    }

    /// Whether it is time to look through the whole queue; the one who is told so does it.
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

    /// Has lanes read again in which rows are counted but nobody knows where they are; or all of them. Should rows
    /// have been removed by hand, a recount tells.
    pub fn sweep(&mut self, database: u32, everything: bool) -> Wakes {
        let mut wakes = Wakes::default();
        let mut any_lost = false;
        for place in 0..super::LANES {
            if let Some(key) = self.lane_key(place).filter(|key| key.database == database) {
                let held_back = self.on_probation(database, key.index_id);
                if let Some(lane) = self.lane_at(place) {
                    let somewhere = lane.in_flight + held_back;
                    let lost = lane.queued > somewhere && lane.fresh.is_empty() && lane.backlog.is_empty();
                    any_lost |= lost;
                    if everything || lost {
                        lane.sweep();
                    }
                }
            }
        }
        if any_lost {
            self.request_recount(database);
            wakes.add(self.launcher_latch);
        }
        wakes
    }

    /// Asks for a count of the tables when a lane has none yet.
    pub fn request_count_if_needed(&mut self, database: u32) -> Wakes {
        let mut wakes = Wakes::default();
        let uncounted = (0..super::LANES).any(|place| {
            self.lane_key(place).is_some_and(|key| key.database == database)
                && self.lane(place).is_some_and(|lane| !lane.counted)
        });
        if uncounted {
            self.request_recount(database);
            wakes.add(self.launcher_latch);
        }
        wakes
    }
}

impl Ledger {
    /// Has the workers of a database whose number is `wanted` or more retire.
    pub fn dismiss(&mut self, database: u32, wanted: u32) -> Wakes {
        let mut wakes = Wakes::default();
        for worker in self.workers_of(database).filter(|worker| worker.number >= wanted && !worker.retire) {
            worker.retire = true;
            wakes.add(worker.latch);
        }
        wakes
    }

    /// Whether a process of ours is in a database, or on its way there.
    pub fn is_occupied(&mut self, database: u32) -> bool {
        self.workers_of(database).next().is_some()
            || self
                .databases
                .iter()
                .any(|entry| entry.oid == database && (entry.counter != 0 || entry.backfiller.pid != 0))
    }

    /// Lets workers into a database again.
    pub fn unhold(&mut self, database: u32) -> Wakes {
        let mut wakes = Wakes::default();
        let launcher = self.launcher_latch;
        if let Some(entry) = self.database_mut(database) {
            entry.holders = entry.holders.saturating_sub(1);
            wakes.add(launcher);
        }
        wakes
    }
}

impl Database {
    /// A free entry.
    pub const EMPTY: Database = Database {
        oid: 0,
        extension: Extension::Unknown,
        extension_oid: 0,
        recount: false,
        recount_at: 0,
        failed_counts: 0,
        swept_at: 0,
        holders: 0,
        counter: 0,
        counter_since: 0,
        held_until: 0,
        crashes: 0,
        restart_at: 0,
        backfiller: Backfiller::EMPTY,
    };

    /// Whether somebody wants the database to itself.
    pub fn is_held(&self, now: Micros) -> bool {
        self.holders > 0 && self.held_until > now
    }
}
