//! A worker's slot: one delivery worker as the other processes see it.
#![forbid(unsafe_code)]

use super::{FixedString, Micros, Postponed, ReadyWork};
use crate::id_ranges::Span;

/// Delivery workers, over all databases of the server.
pub const WORKERS: usize = 64;

/// The most batches one worker has in its hands: `in_flight` requests (64 at most) and as many answers not yet settled.
pub const FLIGHTS: usize = 128;

/// Where a worker is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum SlotState {
    /// Nobody has this slot.
    #[default]
    Free,
    /// The launcher has asked the postmaster for a process.
    Starting,
    /// A process has attached.
    Running,
}

/// One batch between claim and settlement.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Flight {
    /// Rows in the batch; 0 marks a free entry.
    pub rows: i64,
    pub bytes: i64,
    pub lane: u32,
    /// Taken from fresh rows: they have a request slot of their own.
    pub fresh: bool,
    /// The lowest and highest id claimed.
    pub span: Span,
    pub started_at: Micros,
    /// The entry of the rows, if they are held back, plus one.
    pub held_back: u32,
    /// They were fresh and have left room in the batch: others wait for its return.
    pub partial: bool,
}

/// A worker's slot. All zeroes is a free one.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Worker {
    pub slot_state: SlotState,
    /// Set by whoever wants the database to itself; the worker leaves at once.
    pub leave: bool,
    /// There is one worker too many: it takes no more batches and leaves when those on their way are back.
    pub retire: bool,
    /// It waits for its latch and has room for rows of these kinds: a commit wakes it, or a colleague that has more
    /// than it can carry.
    pub capacity: ReadyWork,
    /// It waits and has room for fresh rows of an index that has nothing on its way with it.
    pub capacity_for_idle_lanes: bool,
    /// Its database's name, indices or settings have changed since it last looked.
    pub stale: bool,
    pub pid: i32,
    pub database: u32,
    /// 0 … `audit_algolia.workers` − 1.
    pub number: u32,
    /// Distinguishes one launch in this slot from the next.
    pub launch: u32,
    /// The extension it serves, by its oid; 0 before it has looked.
    pub extension: u32,
    /// The address of its latch, the same in every process.
    pub latch: u64,
    /// Where the search for a lane starts next, so that every lane gets its turn.
    pub next_lane: u32,
    pub started_at: Micros,
    pub batch_started_at: Micros,
    pub batches_total: i64,
    pub rows_total: i64,
    pub errors_total: i64,
    pub batch_rows: i32,
    pub batch_bytes: i64,
    /// The lane of the latest batch, plus one.
    pub batch_lane: u32,
    pub host: FixedString<120>,
    pub last_error: FixedString<400>,
    /// The lane being read just now, plus one, and the span: given back when the worker dies in the middle.
    pub scanning_lane: u32,
    pub scanning: Span,
    /// The entry whose rows they are, if they are held back, plus one.
    pub scanning_held_back: u32,
    /// The lane, plus one, whose fresh rows wait for what is being read.
    pub(super) scanning_partial: u32,
    pub postponed: Postponed,
    pub flights: [Flight; FLIGHTS],
}

impl Worker {
    /// A free slot.
    pub const EMPTY: Worker = Worker {
        slot_state: SlotState::Free,
        leave: false,
        retire: false,
        capacity: ReadyWork { fresh: false, backlog: false, trouble: false },
        capacity_for_idle_lanes: false,
        stale: false,
        pid: 0,
        database: 0,
        number: 0,
        launch: 0,
        extension: 0,
        latch: 0,
        next_lane: 0,
        started_at: 0,
        batch_started_at: 0,
        batches_total: 0,
        rows_total: 0,
        errors_total: 0,
        batch_rows: 0,
        batch_bytes: 0,
        batch_lane: 0,
        host: FixedString::EMPTY,
        last_error: FixedString::EMPTY,
        scanning_lane: 0,
        scanning: Span { lo: 0, hi: 0 },
        scanning_held_back: 0,
        scanning_partial: 0,
        postponed: Postponed::EMPTY,
        flights: [Flight {
            rows: 0,
            bytes: 0,
            lane: 0,
            fresh: false,
            span: Span { lo: 0, hi: 0 },
            started_at: 0,
            held_back: 0,
            partial: false,
        }; FLIGHTS],
    };

    /// Whether it sleeps, has room for fresh rows of any index and is not about to go.
    pub fn is_free(&self) -> bool {
        self.capacity.fresh && !self.retire
    }

    /// Whether it sleeps and has room for fresh rows of this lane, if of no other.
    pub fn has_room_for(&self, lane: usize) -> bool {
        let carries = |flight: &Flight| flight.rows > 0 && flight.lane as usize == lane;
        self.capacity_for_idle_lanes && !self.retire && !self.flights.iter().any(carries)
    }

    /// It is awake, or about to be: nobody needs to wake it.
    pub fn mark_awake(&mut self) {
        self.capacity = ReadyWork::default();
        self.capacity_for_idle_lanes = false;
    }

    /// Rows this worker holds.
    pub fn rows_in_flight(&self) -> i64 {
        self.flights.iter().map(|f| f.rows).sum()
    }

    /// Enters a batch; `None` when there is no entry left.
    pub fn add_flight(&mut self, flight: Flight) -> Option<usize> {
        let free = self.flights.iter().position(|f| f.rows == 0)?;
        self.batch_rows = i32::try_from(flight.rows).unwrap_or(i32::MAX);
        self.batch_bytes = flight.bytes;
        self.batch_lane = flight.lane + 1;
        self.batch_started_at = flight.started_at;
        *self.flights.get_mut(free)? = flight;
        Some(free)
    }

    /// Removes a batch and returns it.
    pub fn remove_flight(&mut self, flight: usize) -> Option<Flight> {
        let entry = self.flights.get_mut(flight)?;
        let landed = (entry.rows > 0).then_some(*entry);
        entry.rows = 0;
        landed
    }
}
