//! One batch over which the server may have crashed.
#![forbid(unsafe_code)]

use super::{LaneKey, Micros, FLIGHTS};
use crate::id_ranges::Span;

/// How many batches can be suspects at a time. Any further batch is sent again as usual.
pub const CRASH_SUSPECTS: usize = FLIGHTS;

/// A row that was in flight alone in this many crashes is not sent any more.
pub const MAX_CRASHES: u32 = 3;

/// Rows that were in flight when the server crashed. All zeroes is a free entry.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CrashSuspect {
    /// The database's oid; 0 marks a free entry.
    pub(super) database: u32,
    pub(super) index_id: i32,
    /// The span that contains them. It may contain other rows as well.
    pub(super) span: Span,
    /// How many rows were in flight, and how many have returned since.
    pub(super) in_flight_rows: i64,
    pub(super) returned_rows: i64,
    /// How many are sent at a time.
    pub(super) part_rows: i64,
    pub(super) crashes: u32,
    pub(super) has_versions: bool,
    /// They are not sent before this time; 0: nobody has looked since the crash.
    pub(super) due: Micros,
    /// The worker that sends them, plus one, and since when.
    pub(super) taken_by: u32,
    pub(super) taken_at: Micros,
    /// Some of them have been claimed and, as far as is known, have not returned.
    pub(super) on_their_way: bool,
    /// The latest claim found none of them.
    pub(super) found_none: bool,
}

/// How suspects are to be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashRetry {
    pub rows: i64,
    /// For a single row: how often the server has crashed while it was in flight.
    pub crashes: u32,
}

impl CrashSuspect {
    /// A free entry.
    pub const EMPTY: CrashSuspect = CrashSuspect {
        database: 0,
        index_id: 0,
        span: Span { lo: 0, hi: 0 },
        in_flight_rows: 0,
        returned_rows: 0,
        part_rows: 0,
        crashes: 0,
        has_versions: false,
        due: 0,
        taken_by: 0,
        taken_at: 0,
        on_their_way: false,
        found_none: false,
    };

    pub(super) fn is_of(&self, key: LaneKey) -> bool {
        self.database == key.database && self.index_id == key.index_id
    }
}
