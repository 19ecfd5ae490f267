//! Owns the names of a chaos run's tables.

/// Watched tables; each goes to an index of its name. `gamma` and `epsilon` are partitioned.
pub const TABLES: [&str; 5] = ["alpha", "beta", "gamma", "delta", "epsilon"];

/// The first of the tables of which updates and deletions are told as well.
pub const CHANGING: usize = 3;

/// The stand-in takes records of so many bytes.
pub(super) const MAX_RECORD_BYTES: usize = 3000;
