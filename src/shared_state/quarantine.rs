//! Quarantines, and rows that wait for an object to be free.
#![forbid(unsafe_code)]

use super::Micros;
use crate::id_ranges::IdRanges;

/// The slots of the table of claimed objects. Half of them can be used.
pub const OBJECTS: usize = 1 << 18;

/// The most quarantines with different ends. Any further one joins one that ends later.
pub const QUARANTINES: usize = 64;

/// Holds objects until a certain time.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Quarantine {
    /// When it ends; 0 marks a free entry.
    pub ends_at: Micros,
}

impl Quarantine {
    /// A free entry.
    pub const EMPTY: Quarantine = Quarantine { ends_at: 0 };
}

/// Rows that the current claim has met and does not take.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Postponed {
    pub lane: u32,
    /// The lane's `deferred_retries` when the first of them was met.
    pub deferred_retries: u32,
    pub rows: IdRanges,
}

impl Postponed {
    /// No rows.
    pub const EMPTY: Postponed = Postponed { lane: 0, deferred_retries: 0, rows: IdRanges::new() };
}
