//! Ids that a database has in reserve.
#![forbid(unsafe_code)]

/// What a database has in reserve. All zeroes is a free entry.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct IdReserve {
    /// The database's oid; 0 marks a free entry.
    pub(super) database: u32,
    /// The sequence; that of an extension made anew is another.
    pub(super) sequence: u32,
    pub(super) next: i64,
    pub(super) end: i64,
}

impl IdReserve {
    /// A free entry.
    pub const EMPTY: IdReserve = IdReserve { database: 0, sequence: 0, next: 0, end: 0 };
}
