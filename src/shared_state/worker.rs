//! A worker's slot: one delivery worker as the other processes see it.
#![forbid(unsafe_code)]

use super::{FixedString, Micros, Postponed, ReadyWork};
use crate::id_ranges::Span;

/// The most workers, over all databases of the server.
pub const WORKERS: usize = 64;

/// The most batches that one worker can hold: `in_flight` requests (64 at most), and as many answers that are not
/// settled yet.
pub const FLIGHTS: usize = 128;

/// The state of a worker's slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum SlotState {
    /// The slot is free.
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
    /// Taken from fresh rows, which have a request slot of their own.
    pub fresh: bool,
    /// The lowest and highest id claimed.
    pub span: Span,
    pub started_at: Micros,
    /// If the rows are held back: their entry, plus one.
    pub held_back: u32,
    /// The rows were fresh and did not fill the batch: others wait for its return.
    pub partial: bool,
}

/// A worker's slot. All zeroes is a free one.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Worker {
    pub slot_state: SlotState,
    /// Set by a statement that needs the database for itself. The worker leaves at once.
    pub leave: bool,
    /// There are too many workers: this one takes no more batches and leaves when its flights have ended.
    pub retire: bool,
    /// It sleeps and has room for these kinds of rows: a commit wakes it, or another worker that cannot take them.
    pub capacity: ReadyWork,
    /// It sleeps and has room for fresh rows of an index of which it has nothing in flight.
    pub capacity_for_idle_lanes: bool,
    /// Names, indices or settings of its database have changed since it last looked.
    pub stale: bool,
    pub pid: i32,
    pub database: u32,
    /// 0 … `audit_algolia.workers` − 1.
    pub number: u32,
    /// Distinguishes this launch from others in the same slot.
    pub launch: u32,
    /// The oid of the extension that it serves; 0 before it has looked.
    pub extension: u32,
    /// The address of its latch, which is the same in every process.
    pub latch: u64,
    /// Where the search for a lane starts next, so that lanes take turns.
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
    /// The lane that is being read, plus one, and the span. Both are given back if the worker dies.
    pub scanning_lane: u32,
    pub scanning: Span,
    /// What is being read does not have to fill a batch by itself: further spans of the lane follow.
    pub(super) fills_batch: bool,
    /// If rows held back are being read: their entry, plus one.
    pub scanning_held_back: u32,
    /// The lane whose fresh rows wait for what is being read, plus one.
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
        fills_batch: false,
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

    /// Whether it sleeps, has room for fresh rows of any index, and is not about to leave.
    pub fn is_free(&self) -> bool {
        self.capacity.fresh && !self.retire
    }

    /// Whether it sleeps and has room for fresh rows of this lane.
    pub fn has_room_for(&self, lane: usize) -> bool {
        let carries = |flight: &Flight| flight.rows > 0 && flight.lane as usize == lane;
        self.capacity_for_idle_lanes && !self.retire && !self.flights.iter().any(carries)
    }

    /// Marks it as awake, so that nobody else wakes it.
    pub fn mark_awake(&mut self) {
        self.capacity = ReadyWork::default();
        self.capacity_for_idle_lanes = false;
    }

    /// The number of rows in flight.
    pub fn rows_in_flight(&self) -> i64 {
        self.flights.iter().map(|f| f.rows).sum()
    }

    /// Adds a batch; `None` if there are too many.
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
        let ended = (entry.rows > 0).then_some(*entry);
        entry.rows = 0;
        ended
    }
}
