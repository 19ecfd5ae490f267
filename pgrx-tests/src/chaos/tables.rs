//! The names of a chaos run's tables.

/// The watched tables; each has an index of its own name. `gamma` and `epsilon` are partitioned.
pub const TABLES: [&str; 5] = ["alpha", "beta", "gamma", "delta", "epsilon"];

/// From this table on, updates and deletes are recorded as well.
pub const CHANGING: usize = 3;

/// The maximum record size of the stand-in.
pub(super) const MAX_RECORD_BYTES: usize = 3000;
