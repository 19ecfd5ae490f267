//! The whole of shared state, and access to its lanes.
#![forbid(unsafe_code)]

use super::{
    CrashSuspect, Database, HeldBack, Lane, LaneKey, Micros, Prepared, Quarantine, Worker, CRASH_SUSPECTS,
    DATABASES, HELD_BACK, OBJECTS, PREPARED, QUARANTINES, WORKERS,
};
use crate::claims::ClaimTable;

/// The most indices that can be delivered, over all databases of the server.
pub const LANES: usize = 512;

/// The slots of the claim table, which all workers share. Half of them can be used.
pub const CLAIMS: usize = 1 << 18;

/// Everything in shared memory. All zeroes is a server that has just started.
#[repr(C)]
pub struct SharedState {
    pub(super) lane_keys: [LaneKey; LANES],
    pub(super) lanes: [Lane; LANES],
    pub workers: [Worker; WORKERS],
    pub databases: [Database; DATABASES],
    /// The highest end of a commit record that queued rows.
    pub(super) commit_lsn: u64,
    pub(super) prepared: [Prepared; PREPARED],
    pub(super) held_back: [HeldBack; HELD_BACK],
    pub(super) crash_suspects: [CrashSuspect; CRASH_SUSPECTS],
    /// Whether there are crash suspects.
    pub(super) has_crash_suspects: bool,
    pub(super) claims: ClaimTable<CLAIMS>,
    pub(super) objects: ClaimTable<OBJECTS>,
    pub(super) quarantines: [Quarantine; QUARANTINES],
    /// When the next quarantine ends; 0: there is none.
    pub(super) quarantine_ends_at: Micros,
    /// When the launcher started for the first time.
    pub(super) launcher_started_at: Micros,
    /// The address of the launcher's latch; 0: there is no launcher.
    pub launcher_latch: u64,
    /// The launcher was called since it last began to look.
    pub launcher_called: bool,
    pub launcher_pid: i32,
    /// A database that has changed but has no entry; 0: none.
    pub unlisted_database: u32,
    /// The latest known time.
    pub(super) clock: Micros,
    pub(super) launches: u32,
    /// Slots from this one on have never been used.
    pub(super) workers_ever_used: u32,
    /// Entries of the held-back table from this one on have never been used.
    pub(super) held_back_ever_used: u32,
}

impl SharedState {
    /// An empty shared state on the heap, for tests. The server zeroes shared memory itself.
    #[cfg(test)]
    pub(super) fn boxed() -> Box<SharedState> {
        // Built in a thread with a large stack, because the claim table alone exceeds a test's.
        let build = || {
            Box::new(SharedState {
                lane_keys: [LaneKey { database: 0, index_id: 0 }; LANES],
                lanes: [Lane::EMPTY; LANES],
                workers: [Worker::EMPTY; WORKERS],
                databases: [Database::EMPTY; DATABASES],
                commit_lsn: 0,
                prepared: [Prepared {
                    gid: 0,
                    database: 0,
                    xid: 0,
                    stale: false,
                    change: super::CommitDelta::EMPTY,
                }; PREPARED],
                held_back: [HeldBack::EMPTY; HELD_BACK],
                crash_suspects: [CrashSuspect::EMPTY; CRASH_SUSPECTS],
                has_crash_suspects: false,
                claims: ClaimTable::new(),
                objects: ClaimTable::new(),
                quarantines: [Quarantine::EMPTY; QUARANTINES],
                quarantine_ends_at: 0,
                launcher_started_at: 0,
                launcher_latch: 0,
                launcher_called: false,
                launcher_pid: 0,
                unlisted_database: 0,
                clock: 0,
                launches: 0,
                workers_ever_used: 0,
                held_back_ever_used: 0,
            })
        };
        std::thread::Builder::new().stack_size(256 << 20).spawn(build).unwrap().join().unwrap()
    }

    /// The lane of an index, created if necessary; `None` if no lane is free.
    pub fn lane_mut(&mut self, database: u32, index_id: i32) -> Option<&mut Lane> {
        let lane = match self.find_lane(database, index_id) {
            Some(lane) => lane,
            None => {
                let free = self.lane_keys.iter().position(|k| k.database == 0)?;
                *self.lane_keys.get_mut(free)? = LaneKey { database, index_id };
                // The former owner of the lane may have left something in it.
                *self.lanes.get_mut(free)? = Lane::EMPTY;
                free
            }
        };
        self.lanes.get_mut(lane)
    }

    /// The place of an index's lane.
    pub fn find_lane(&self, database: u32, index_id: i32) -> Option<usize> {
        self.lane_keys.iter().position(|k| k.database == database && k.index_id == index_id)
    }

    /// The lane at a place.
    pub fn lane(&self, lane: usize) -> Option<&Lane> {
        self.lanes.get(lane)
    }

    /// The lane at a place, mutable.
    pub fn lane_at(&mut self, lane: usize) -> Option<&mut Lane> {
        self.lanes.get_mut(lane)
    }

    /// The database and index of a lane.
    pub fn lane_key(&self, lane: usize) -> Option<LaneKey> {
        self.lane_keys.get(lane).copied()
    }

    /// The lanes of a database: place and index.
    pub fn lanes_of(&self, database: u32) -> impl Iterator<Item = (usize, i32)> + '_ {
        self.lane_keys
            .iter()
            .enumerate()
            .filter(move |(_, k)| k.database == database)
            .map(|(place, k)| (place, k.index_id))
    }

    /// How many more rows can be claimed.
    pub fn claims_left(&self) -> usize {
        self.claims.capacity().saturating_sub(self.claims.len())
    }

    /// How many lanes are free.
    pub fn free_lanes(&self) -> usize {
        self.lane_keys.iter().filter(|k| k.database == 0).count()
    }
}
