//! The ledger: what all processes of the server share about queues, claims and workers.
//!
//! It lives in shared memory behind one lock and starts as all zeroes, also after a crash; everything in
//! it can be rebuilt from the tables. The rows are the truth, the ledger only makes them quick to find
//! and keeps two workers from holding the same one. Nothing here knows PostgreSQL, so it is tested without it.
//!
//! Wording: a *lane* is one index of one database; a *span* is a closed interval of queue ids; a *flight*
//! is a batch between its claim and its settlement.
#![forbid(unsafe_code)]

mod commit;
mod extension;
mod lane;
mod leftovers;
mod objects;
mod prepared;
mod probation;
mod room;
mod roster;
mod settings;
#[cfg(test)]
mod tests;
mod text;
mod view;
mod worker;

pub use commit::{Announcement, Change, Count, COMMITTING};
pub use extension::Duty;
pub use lane::{Claimable, End, Lane, Micros, Setback, ID_BLOCK};
pub use objects::{object_hash, Postponed, Quarantine, OBJECTS, QUARANTINES};
pub use prepared::{Prepared, PREPARED};
pub use probation::{Probation, Sentence, PROBATIONS};
pub use room::Kinds;
pub use roster::{Database, Exit, Extension, Wakes, DATABASES};
pub use settings::Sent;
pub use text::Text;
pub use worker::{Flight, Stage, Worker, FLIGHTS};

use crate::claims::{Claim, ClaimTable};
use crate::regions::Span;
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
pub struct Ledger {
    lane_keys: [LaneKey; LANES],
    lanes: [Lane; LANES],
    pub workers: [Worker; WORKERS],
    pub databases: [Database; DATABASES],
    committing: [Announcement; COMMITTING],
    prepared: [Prepared; PREPARED],
    probation: [Probation; PROBATIONS],
    claims: ClaimTable<CLAIMS>,
    objects: ClaimTable<OBJECTS>,
    quarantines: [Quarantine; QUARANTINES],
    /// When the next quarantine ends; 0 while there is none.
    quarantine_ends_at: Micros,
    /// Since when there has been a launcher.
    opened_at: Micros,
    /// The address of the launcher's latch; 0 while there is none.
    pub launcher_latch: u64,
    pub launcher_pid: i32,
    /// When the next record on probation may be claimed; 0 while none is held back.
    parole_at: Micros,
    launches: u32,
    /// Slots from this one on have never been taken.
    workers_ever_used: u32,
}

/// What a worker can handle at the moment.
#[derive(Clone, Copy, Debug)]
pub struct Appetite {
    /// Requests it may have in flight (`audit_algolia.in_flight`).
    pub slots: usize,
    pub batch_rows: i64,
    pub linger: Micros,
    /// Per cent.
    pub tail_share: u32,
}

/// What became of the rows of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Landing<'a> {
    /// Algolia has judged the records, whatever it said of each.
    pub judged: bool,
    /// Arrived, and deleted from the queue.
    pub delivered: &'a [i64],
    /// The indexing task of what has arrived, if the answer named one.
    pub task: Option<i64>,
    /// How many older versions were deleted with them.
    pub superseded: i64,
    /// How many are dead or on probation: not to be claimed by anybody now.
    pub kept: usize,
    /// The objects whose versions the batch holds, and of each the hash and the row.
    pub versions: &'a [(i64, i64)],
    /// A request of the batch may still be executed: until when the objects are held.
    pub held_until: Option<Micros>,
}

/// What a worker is to do next.
#[allow(clippy::large_enum_variant, reason = "it is returned once a round, and not kept")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Claim rows of this lane.
    Claim { lane: usize, index_id: i32, claimable: Claimable },
    /// Nothing can be claimed; look again at this time, if any. Rows that are left for others to claim wake one of
    /// them: its latch.
    Wait { until: Option<Micros>, wake: Option<u64> },
}

impl Ledger {
    /// An empty ledger on the heap, for tests. Shared memory gets its zeroes from the server.
    #[cfg(test)]
    fn boxed() -> Box<Ledger> {
        // Built in a thread with a stack of its own: the claim table alone is larger than a test's.
        let build = || {
            Box::new(Ledger {
                lane_keys: [LaneKey { database: 0, index_id: 0 }; LANES],
                lanes: [Lane::EMPTY; LANES],
                workers: [Worker::EMPTY; WORKERS],
                databases: [Database::EMPTY; DATABASES],
                committing: [Announcement::EMPTY; COMMITTING],
                prepared: [Prepared { gid: 0, database: 0, xid: 0, stale: false, change: Change::EMPTY };
                    PREPARED],
                probation: [Probation::EMPTY; PROBATIONS],
                claims: ClaimTable::new(),
                objects: ClaimTable::new(),
                quarantines: [Quarantine::EMPTY; QUARANTINES],
                quarantine_ends_at: 0,
                opened_at: 0,
                launcher_latch: 0,
                launcher_pid: 0,
                parole_at: 0,
                launches: 0,
                workers_ever_used: 0,
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

    /// Forgets all lanes of a database that no longer has the extension.
    pub fn close_lanes(&mut self, database: u32) {
        let mut closed = Vec::new();
        for (place, (key, lane)) in self.lane_keys.iter_mut().zip(self.lanes.iter_mut()).enumerate() {
            if key.database == database {
                closed.push(place);
                *key = LaneKey { database: 0, index_id: 0 };
                *lane = Lane::EMPTY;
            }
        }
        // What its workers still hold belongs to lanes that are no more. Their batches keep their entries until
        // they return, so that no other batch is taken for one of them.
        for (place, worker) in self.workers.iter_mut().enumerate() {
            if worker.database == database && worker.stage == Stage::Running {
                worker.scanning_lane = 0;
                worker.postponed = Postponed::EMPTY;
                worker.batch_lane = 0;
                for flight in &mut worker.flights {
                    flight.lane = NO_LANE;
                }
                self.claims.release_all(place as u32 + 1);
            }
        }
        self.forget_probation(database);
        for lane in closed {
            self.forget_objects(lane);
        }
    }

    /// Chooses what `worker` claims next: fresh rows before the backlog, each lane in its turn. The span
    /// chosen belongs to the worker until it gives the rest back with [`Ledger::claimed`].
    pub fn next(&mut self, worker: usize, appetite: Appetite, now: Micros) -> Next {
        self.parole(now);
        self.end_quarantines(now);
        let Some(me) = self.workers.get(worker) else {
            return Next::Wait { until: None, wake: None };
        };
        let (database, start) = (me.database, me.next_lane as usize);
        let room = Room::of(me, &self.lanes, appetite.slots);
        for round in [Round::Tail, Round::Fresh, Round::Backlog] {
            for step in 0..LANES {
                let place = (start + step) % LANES;
                let Some(key) = self.lane_keys.get(place).filter(|k| k.database == database).copied() else {
                    continue;
                };
                let Some(lane) = self.lanes.get_mut(place).filter(|l| l.is_open(now)) else {
                    continue;
                };
                let (fits, share) = (room.for_lane(place, lane), appetite.tail_share);
                let claimable = match round {
                    Round::Tail if fits.backlog && lane.is_tails_turn(share) => lane.take_tail(share),
                    Round::Fresh if fits.fresh => lane.take_fresh(&appetite, now),
                    Round::Backlog if fits.backlog => lane.take_backlog(share),
                    _ => None,
                };
                if let (Some(claimable), Some(me)) = (claimable, self.workers.get_mut(worker)) {
                    me.next_lane = ((place + 1) % LANES) as u32;
                    me.awake();
                    me.scanning_lane = place as u32 + 1;
                    me.scanning = claimable.span;
                    return Next::Claim { lane: place, index_id: key.index_id, claimable };
                }
            }
        }
        let (until, left) = self.waiting(database, &room, &appetite, now);
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
        appetite: &Appetite,
        now: Micros,
    ) -> (Option<Micros>, Kinds) {
        let (mut until, mut left): (Option<Micros>, _) = (None, Kinds::default());
        for (place, _) in self.lanes_of(database) {
            let Some(lane) = self.lanes.get(place) else { continue };
            let fits = room.for_lane(place, lane);
            if let (true, Some(at)) = (fits.fresh, lane.opens_at(appetite, fits.backlog)) {
                until = Some(until.map_or(at, |until| until.min(at)));
            }
            let is_left = |backlog| lane.opens_at(appetite, backlog).is_some_and(|at| at <= now);
            if lane.is_in_trouble() {
                left.trouble |= is_left(true);
            } else {
                left.fresh |= is_left(false);
                left.backlog |= is_left(true);
            }
        }
        (until.into_iter().chain(self.next_parole()).chain(self.next_release()).min(), left)
    }

    /// Enters a row into the claim table; `false` when another worker holds it or the table is full.
    pub fn claim(&mut self, worker: usize, id: i64) -> Claim {
        let Some(me) = self.workers.get(worker) else {
            return Claim::Full;
        };
        self.claims.claim(worker as u32 + 1, me.database, id)
    }

    /// Enters the rows claimed as a flight, while the claiming transaction is still under way. The `rest` of the span
    /// stays with the worker until [`Ledger::claim_ended`]: rows that were read in vain are locked until then, and would
    /// be passed over by whoever else is given them.
    /// Returns the flight's place, or `None` when nothing was claimed.
    pub fn claimed(&mut self, worker: usize, rest: Option<Span>, flight: Option<Flight>) -> Option<usize> {
        let me = self.workers.get_mut(worker)?;
        let lane = (me.scanning_lane as usize).checked_sub(1)?;
        let place = match flight {
            Some(flight) => Some(me.take_off(flight)?),
            None => None,
        };
        match rest {
            Some(rest) => me.scanning = rest,
            None => me.scanning_lane = 0,
        }
        self.lanes.get_mut(lane)?.in_flight += flight.map_or(0, |flight| flight.rows);
        place
    }

    /// The claiming transaction is over: what was not claimed of the span waits again.
    pub fn claim_ended(&mut self, worker: usize) {
        self.end_postponement(worker);
        let Some(me) = self.workers.get_mut(worker) else { return };
        let (lane, span) = (std::mem::take(&mut me.scanning_lane) as usize, me.scanning);
        if let Some(lane) = lane.checked_sub(1).and_then(|lane| self.lanes.get_mut(lane)) {
            lane.give_back(span);
        }
    }

    /// A batch is back: frees its claims. What was neither delivered nor found to be at fault waits again. Returns where
    /// its lane is, if that has not been closed since.
    pub fn landed(
        &mut self,
        worker: usize,
        flight: usize,
        ids: impl IntoIterator<Item = i64>,
        landing: Landing<'_>,
        now: Micros,
    ) -> Option<usize> {
        let landed = self.land(worker, flight, ids)?;
        let dealt_with = landing.delivered.len() + landing.kept;
        if let Some(lane) = self.lanes.get_mut(landed.lane as usize) {
            if landing.judged {
                lane.answered(landed.started_at);
            }
            if !landing.delivered.is_empty() {
                lane.delivered(landing.delivered.len() as i64 + landing.superseded, now);
            }
            lane.last_task = lane.last_task.max(landing.task.unwrap_or(0));
            if (dealt_with as i64) < landed.rows {
                lane.give_back(landed.span);
            }
        }
        self.land_objects(worker, landed.lane as usize, landing);
        if let Some(database) = self.workers.get(worker).map(|me| me.database) {
            self.acquit(database, landing.delivered);
        }
        self.lane(landed.lane as usize).map(|_| landed.lane as usize)
    }

    /// Where the lane of a batch under way is, if it has not been closed since.
    pub fn lane_of_flight(&self, worker: usize, flight: usize) -> Option<usize> {
        let lane = self.workers.get(worker)?.flights.get(flight)?.lane as usize;
        self.lane(lane).map(|_| lane)
    }

    fn land_objects(&mut self, worker: usize, lane: usize, landing: Landing<'_>) {
        match landing.held_until {
            None => self.release_objects(worker, lane, landing.versions.iter().map(|(hash, _)| *hash)),
            Some(ends_at) => {
                self.recall(lane);
                self.hold_objects(worker, lane, landing.versions.iter().copied(), ends_at);
            }
        }
    }

    /// A batch has been delivered as a whole and its rows are deleted.
    pub fn settled(&mut self, worker: usize, flight: usize, ids: &[i64], now: Micros) {
        let landing = Landing { judged: true, delivered: ids, ..Landing::default() };
        self.landed(worker, flight, ids.iter().copied(), landing, now);
    }

    /// A batch was not delivered: its rows wait again.
    pub fn released(&mut self, worker: usize, flight: usize, ids: impl IntoIterator<Item = i64>) {
        self.landed(worker, flight, ids, Landing::default(), 0);
    }

    fn land(&mut self, worker: usize, flight: usize, ids: impl IntoIterator<Item = i64>) -> Option<Flight> {
        let landed = self.workers.get_mut(worker)?.land(flight)?;
        self.unclaim(worker, ids);
        if let Some(lane) = self.lanes.get_mut(landed.lane as usize) {
            lane.in_flight -= landed.rows;
        }
        Some(landed)
    }

    /// A worker ends, whatever it was doing: everything it held waits again, objects until `held_until`, for its
    /// requests may still be executed.
    pub fn resign(&mut self, worker: usize, held_until: Micros) {
        self.hold_all_objects(worker, held_until);
        self.leave_probation(worker);
        let Some(me) = self.workers.get_mut(worker) else {
            return;
        };
        let (flights, postponed) = (me.flights, me.postponed);
        let scanning = (me.scanning_lane as usize).checked_sub(1).map(|lane| (lane, me.scanning));
        *me = Worker::EMPTY;
        self.claims.release_all(worker as u32 + 1);
        for flight in flights.iter().filter(|f| f.rows > 0) {
            if let Some(lane) = self.lanes.get_mut(flight.lane as usize) {
                lane.in_flight -= flight.rows;
                lane.give_back(flight.span);
            }
        }
        if let Some(lane) = self.lanes.get_mut(postponed.lane as usize) {
            postponed.rows.iter().for_each(|span| lane.give_back(span));
        }
        if let Some((lane, span)) = scanning {
            if let Some(lane) = self.lanes.get_mut(lane) {
                lane.give_back(span);
            }
        }
    }
}
