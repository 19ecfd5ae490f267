//! Quarantines, and rows that wait for an object to be free.
#![forbid(unsafe_code)]

use super::Micros;
use crate::id_ranges::IdRanges;

/// Slots of the table of claimed objects; half of them can be used.
pub const OBJECTS: usize = 1 << 18;

/// Quarantines that end at times of their own. What does not fit joins one that ends later.
pub const QUARANTINES: usize = 64;

/// Objects that are held until a time.
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

/// Rows that a claim under way has come across and leaves where they are.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Postponed {
    pub lane: u32,
    /// How often the lane had been recalled when the first of them was met.
    pub deferred_retries: u32,
    pub rows: IdRanges,
}

impl Postponed {
    /// None.
    pub const EMPTY: Postponed = Postponed { lane: 0, deferred_retries: 0, rows: IdRanges::new() };
}
