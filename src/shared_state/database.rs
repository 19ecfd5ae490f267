//! One database of the server.
#![forbid(unsafe_code)]

use super::{Backfiller, FixedString, Micros};

/// The most databases that can have an entry.
pub const DATABASES: usize = 256;

/// Whether a database has the extension.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Extension {
    /// Nobody has looked since the server started or since something changed.
    #[default]
    Unknown,
    Absent,
    Present,
}

/// A database of the server. All zeroes is a free entry.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Database {
    /// The database's oid; 0 marks a free entry.
    pub oid: u32,
    pub extension: Extension,
    /// The oid of the extension whose indices have lanes; 0: none, or nobody has looked.
    pub extension_oid: u32,
    /// A count of the tables is requested, because the counters may be wrong.
    pub recount: bool,
    /// Since the running count began, rows have become visible that it may or may not include.
    pub(super) is_count_outdated: bool,
    /// The process that counts; 0: none, -1: being started.
    pub counter: i32,
    /// When the counting process was requested.
    pub counter_since: Micros,
    /// No count is started before this time.
    pub recount_at: Micros,
    /// The number of unfinished counts in a row.
    pub failed_counts: u32,
    /// When the whole queue was last read.
    pub swept_at: Micros,
    /// How many statements need the database for themselves. While there are any, no worker is started.
    pub vacating_statements: u32,
    /// If the statements have not ended by then, they are forgotten.
    pub vacated_until: Micros,
    /// The number of workers in a row that failed.
    pub crashes: u32,
    /// No worker is started before this time.
    pub restart_at: Micros,
    /// The backfill process.
    pub backfiller: Backfiller,
    /// A number that identifies where deliveries go; 0: not known yet.
    pub destination: u64,
    /// Why workers cannot work, until one can.
    pub trouble: FixedString<400>,
    pub trouble_at: Micros,
}

impl Database {
    /// A free entry.
    pub const EMPTY: Database = Database {
        oid: 0,
        extension: Extension::Unknown,
        extension_oid: 0,
        recount: false,
        is_count_outdated: false,
        recount_at: 0,
        failed_counts: 0,
        swept_at: 0,
        vacating_statements: 0,
        counter: 0,
        counter_since: 0,
        vacated_until: 0,
        crashes: 0,
        restart_at: 0,
        backfiller: Backfiller::EMPTY,
        destination: 0,
        trouble: FixedString::EMPTY,
        trouble_at: 0,
    };

    /// A count is about to begin.
    pub fn count_begins(&mut self, now: Micros) {
        (self.recount, self.is_count_outdated) = (false, false);
        (self.counter, self.counter_since) = (-1, now);
    }

    /// Whether a statement needs the database for itself.
    pub fn is_vacated(&self, now: Micros) -> bool {
        self.vacating_statements > 0 && self.vacated_until > now
    }
}
