//! Shared state: what all processes of the server share about queues, claims and workers.
//!
//! It lives in shared memory behind one lock and starts as all zeroes, also after a crash; everything in
//! it can be rebuilt from the tables. The rows are the truth, shared state only makes them quick to find
//! and keeps two workers from holding the same one. Nothing here knows PostgreSQL, so it is tested without it.
//!
//! Wording: a *lane* is one index of one database; a *span* is a closed interval of queue ids; a *flight*
//! is a batch between its claim and its settlement.
#![forbid(unsafe_code)]

mod apart;
mod attempts;
mod backfill;
mod blocks;
mod clock;
mod commit;
mod databases;
mod extension;
mod flights;
mod held_back;
mod held_objects;
mod lane;
mod objects;
mod prepared;
mod reclaim;
mod room;
mod roster;
mod search;
mod settings;
mod suspects;
mod tasks;
#[cfg(test)]
mod tests;
mod text;
mod unattributed_rejections;
mod view;
mod worker;

pub use backfill::Backfiller;
pub use blocks::{Reserve, RESERVE};
pub use commit::{Announcement, CommitDelta, Count, Durable, COMMITTING};
pub use databases::{Database, Extension, DATABASES};
pub use extension::Duty;
pub use flights::{Landing, Places};
pub use held_back::{HeldBack, RejectAction, HELD_BACK};
pub use held_objects::{HeldObject, NotHeld};
pub use lane::{Apart, Claimable, End, Lane, LaneFailure, Micros, ID_BLOCK};
pub use objects::{object_hash, Postponed, Quarantine, OBJECTS, QUARANTINES};
pub use prepared::{Prepared, PREPARED};
pub use room::ReadyWork;
pub use roster::{Exit, Wakes};
pub use search::{Failure, Search};
pub use settings::Sent;
pub use suspects::{Suspect, Trial, CRASHES, SUSPECTS};
pub use text::Text;
pub use unattributed_rejections::UnattributedRejections;
pub use worker::{Flight, Stage, Worker, FLIGHTS};

use crate::claims::ClaimTable;
use room::Room;

/// Indices, over all databases of the server, that can be delivered.
pub const LANES: usize = 512;
/// Delivery workers, over all databases of the server.
pub const WORKERS: usize = 64;
/// Slots of the claim table; half of them can be used, by all workers together.
pub const CLAIMS: usize = 1 << 18;

/// The lane of a batch whose lane has been closed.
const NO_LANE: u32 = LANES as u32;

/// Which database and index a lane is for; `database` 0 marks a free lane.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct LaneKey {
    pub database: u32,
    pub index_id: i32,
}

/// The order in which a worker looks for something to claim: in each round it passes all lanes.
enum Round {
    /// Lanes whose oldest rows have their turn.
    Tail,
    Fresh,
    Backlog,
}

/// Everything shared. All zeroes is the state of a server that has just started.
#[repr(C)]
pub struct SharedState {
    lane_keys: [LaneKey; LANES],
    lanes: [Lane; LANES],
    pub workers: [Worker; WORKERS],
    pub databases: [Database; DATABASES],
    reserves: [Reserve; DATABASES],
    committing: [Announcement; COMMITTING],
    /// The latest place of the log at which the commit of queued rows ends.
    durable_until: u64,
    prepared: [Prepared; PREPARED],
    held_back: [HeldBack; HELD_BACK],
    suspects: [Suspect; SUSPECTS],
    /// There are some.
    has_suspects: bool,
    claims: ClaimTable<CLAIMS>,
    objects: ClaimTable<OBJECTS>,
    quarantines: [Quarantine; QUARANTINES],
    /// When the next quarantine ends; 0 while there is none.
    quarantine_ends_at: Micros,
    /// Since when there has been a launcher.
    opened_at: Micros,
    /// The address of the launcher's latch; 0 while there is none.
    pub launcher_latch: u64,
    /// It has been called since it last began to look.
    pub launcher_called: bool,
    pub launcher_pid: i32,
    /// A database that has changed and for which there was no entry; 0: none.
    pub overlooked: u32,
    /// The latest time anybody has told.
    clock: Micros,
    launches: u32,
    /// Slots from this one on have never been taken.
    workers_ever_used: u32,
    /// The same of entries of the table of rows held back.
    held_back_ever_used: u32,
}

/// What a worker can handle at the moment.
#[derive(Clone, Copy, Debug)]
pub struct WorkerLimits {
    /// Requests it may have in flight (`audit_algolia.in_flight`).
    pub slots: usize,
    pub batch_rows: i64,
    /// The largest request body (`audit_algolia.batch_bytes`).
    pub batch_bytes: i64,
    pub linger: Micros,
    /// How long a request that nobody waits for any more may still be executed.
    pub quarantine: Micros,
    /// Per cent.
    pub tail_share: u32,
}

/// What a worker is to do next.
#[allow(clippy::large_enum_variant, reason = "it is returned once a round, and not kept")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Claim rows of this lane, so many bytes at most; `trial`: they may be why the server has crashed.
    Claim { lane: usize, index_id: i32, claimable: Claimable, bytes: i64, trial: Option<Trial> },
    /// Nothing can be claimed; look again at this time, if any. Rows that are left for others to claim wake one of
    /// them: its latch.
    Wait { until: Option<Micros>, wake: Option<u64> },
}

impl SharedState {
    /// An empty shared state on the heap, for tests. Shared memory gets its zeroes from the server.
    #[cfg(test)]
    fn boxed() -> Box<SharedState> {
        // Built in a thread with a stack of its own: the claim table alone is larger than a test's.
        let build = || {
            Box::new(SharedState {
                lane_keys: [LaneKey { database: 0, index_id: 0 }; LANES],
                lanes: [Lane::EMPTY; LANES],
                workers: [Worker::EMPTY; WORKERS],
                databases: [Database::EMPTY; DATABASES],
                reserves: [Reserve::EMPTY; DATABASES],
                committing: [Announcement::EMPTY; COMMITTING],
                durable_until: 0,
                prepared: [Prepared { gid: 0, database: 0, xid: 0, stale: false, change: CommitDelta::EMPTY };
                    PREPARED],
                held_back: [HeldBack::EMPTY; HELD_BACK],
                suspects: [Suspect::EMPTY; SUSPECTS],
                has_suspects: false,
                claims: ClaimTable::new(),
                objects: ClaimTable::new(),
                quarantines: [Quarantine::EMPTY; QUARANTINES],
                quarantine_ends_at: 0,
                opened_at: 0,
                launcher_latch: 0,
                launcher_called: false,
                launcher_pid: 0,
                overlooked: 0,
                clock: 0,
                launches: 0,
                workers_ever_used: 0,
                held_back_ever_used: 0,
            })
        };
        std::thread::Builder::new().stack_size(256 << 20).spawn(build).unwrap().join().unwrap()
    }

    /// The lane of an index, made when it is new; `None` when all lanes are taken.
    pub fn lane_mut(&mut self, database: u32, index_id: i32) -> Option<&mut Lane> {
        let lane = match self.find_lane(database, index_id) {
            Some(lane) => lane,
            None => {
                let free = self.lane_keys.iter().position(|k| k.database == 0)?;
                *self.lane_keys.get_mut(free)? = LaneKey { database, index_id };
                // Whoever had it before may have left something behind.
                *self.lanes.get_mut(free)? = Lane::EMPTY;
                free
            }
        };
        self.lanes.get_mut(lane)
    }

    /// Where the lane of an index is.
    pub fn find_lane(&self, database: u32, index_id: i32) -> Option<usize> {
        self.lane_keys.iter().position(|k| k.database == database && k.index_id == index_id)
    }

    /// A lane by its place.
    pub fn lane(&self, lane: usize) -> Option<&Lane> {
        self.lanes.get(lane)
    }

    /// A lane by its place, to change it.
    pub fn lane_at(&mut self, lane: usize) -> Option<&mut Lane> {
        self.lanes.get_mut(lane)
    }

    /// Which index a lane is for.
    pub fn lane_key(&self, lane: usize) -> Option<LaneKey> {
        self.lane_keys.get(lane).copied()
    }

    /// The places of a database's lanes.
    pub fn lanes_of(&self, database: u32) -> impl Iterator<Item = (usize, i32)> + '_ {
        self.lane_keys
            .iter()
            .enumerate()
            .filter(move |(_, k)| k.database == database)
            .map(|(place, k)| (place, k.index_id))
    }

    /// How many more rows can be claimed before some have been dealt with.
    pub fn claims_left(&self) -> usize {
        self.claims.capacity().saturating_sub(self.claims.len())
    }

    /// Lanes nobody has taken.
    pub fn free_lanes(&self) -> usize {
        self.lane_keys.iter().filter(|k| k.database == 0).count()
    }

    /// Forgets all lanes of a database that no longer has the extension. However many there are, each table of claims is
    /// looked through once: commits wait meanwhile.
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
        // What its workers still hold belongs to lanes that are no more. Their batches keep their entries until
        // they return, so that no other batch is taken for one of them.
        let mut lets_go = [false; WORKERS];
        for (lets_go, worker) in lets_go.iter_mut().zip(self.workers.iter_mut()) {
            if worker.database == database && worker.stage == Stage::Running {
                *lets_go = true;
                worker.scanning_lane = 0;
                worker.scanning_apart = 0;
                worker.postponed = Postponed::EMPTY;
                worker.batch_lane = 0;
                for flight in &mut worker.flights {
                    flight.lane = NO_LANE;
                    flight.apart = 0;
                }
            }
        }
        let forgotten = self.forget_held_back(|entry, _| entry == database);
        self.claims.release_where(|owner, _| {
            let of_worker = || (owner as usize).checked_sub(1).and_then(|worker| lets_go.get(worker));
            let of_held_back = || forgotten.get(SharedState::held_back_of(owner)?);
            of_worker().or_else(of_held_back).copied().unwrap_or_default()
        });
        self.forget_suspects(|entry, _| entry == database);
        if is_closed.contains(&true) {
            self.forget_objects(|lane| is_closed.get(lane).copied().unwrap_or_default());
        }
    }

    /// Chooses what `worker` claims next: fresh rows before the backlog, each lane in its turn. The span
    /// chosen belongs to the worker until it gives the rest back with [`SharedState::claimed`].
    pub fn next(&mut self, worker: usize, worker_limits: WorkerLimits, now: Micros) -> Next {
        self.tick(now);
        self.end_quarantines(now);
        let Some(me) = self.workers.get(worker) else {
            return Next::Wait { until: None, wake: None };
        };
        let (database, start) = (me.database, me.next_lane as usize);
        let room = Room::of(me, &self.lanes, &worker_limits);
        match self.next_suspects(worker, &worker_limits, now) {
            Some(Next::Wait { until, .. }) => {
                // There is nothing it has room for meanwhile.
                self.workers.get_mut(worker).into_iter().for_each(Worker::awake);
                let (_, left) = self.waiting(database, &room, &worker_limits, now);
                return Next::Wait { until, wake: self.wake_another(database, worker, left) };
            }
            Some(claim) => return claim,
            None => (),
        }
        if let Some(claim) = self.next_apart(worker, &room, true, now) {
            return claim;
        }
        for round in [Round::Tail, Round::Fresh, Round::Backlog] {
            for step in 0..LANES {
                let place = (start + step) % LANES;
                let Some(key) = self.lane_keys.get(place).filter(|k| k.database == database).copied() else {
                    continue;
                };
                let Some(lane) = self.lanes.get_mut(place).filter(|l| l.is_open(now)) else {
                    continue;
                };
                let (fits, share) = (room.for_lane(place, lane), worker_limits.tail_share);
                let claimable = match round {
                    Round::Tail if fits.backlog && lane.is_tails_turn(share) => lane.take_tail(share),
                    Round::Fresh if fits.fresh => lane.take_fresh(&worker_limits, now),
                    Round::Backlog if fits.backlog => lane.take_backlog(share),
                    _ => None,
                };
                lane.is_turn_of_held_back |= claimable.is_some();
                let claimable =
                    claimable.and_then(|claimable| self.take_clear_of_suspects(place, key, claimable));
                if let (Some(claimable), Some(me)) = (claimable, self.workers.get_mut(worker)) {
                    me.next_lane = ((place + 1) % LANES) as u32;
                    me.awake();
                    me.scanning_lane = place as u32 + 1;
                    me.scanning = claimable.span;
                    let bytes = room.bytes_for(place, claimable.fresh);
                    return Next::Claim {
                        lane: place,
                        index_id: key.index_id,
                        claimable,
                        bytes,
                        trial: None,
                    };
                }
            }
        }
        if let Some(claim) = self.next_apart(worker, &room, false, now) {
            return claim;
        }
        let (until, left) = self.waiting(database, &room, &worker_limits, now);
        if let Some(me) = self.workers.get_mut(worker) {
            me.room = room.for_any();
            me.room_for_newcomers = room.for_newcomers().fresh;
        }
        Next::Wait { until, wake: self.wake_another(database, worker, left) }
    }

    /// When a worker with that room has something to claim, and what others could claim now.
    fn waiting(
        &self,
        database: u32,
        room: &Room,
        worker_limits: &WorkerLimits,
        now: Micros,
    ) -> (Option<Micros>, ReadyWork) {
        let (mut until, mut left): (Option<Micros>, _) = (None, ReadyWork::default());
        for (place, _) in self.lanes_of(database) {
            let Some(lane) = self.lanes.get(place) else { continue };
            let fits = room.for_lane(place, lane);
            let opens_at = lane.opens_at(worker_limits, fits.backlog).or_else(|| lane.backs_off_until(now));
            if let (true, Some(at)) = (fits.fresh, opens_at) {
                until = Some(until.map_or(at, |until| until.min(at)));
            }
            let is_left = |backlog| lane.opens_at(worker_limits, backlog).is_some_and(|at| at <= now);
            if lane.is_in_trouble() {
                left.trouble |= is_left(true);
            } else {
                left.fresh |= is_left(false);
                left.backlog |= is_left(true);
            }
        }
        let release_due = self.next_release_due(database);
        left.trouble |= release_due.is_some_and(|at| at <= now);
        let release_due = release_due.filter(|_| room.for_any().trouble);
        let others = [release_due, self.next_release(), self.next_trial(database, now)];
        (others.into_iter().flatten().chain(until).min(), left)
    }
}
