//! One database of the server.
#![forbid(unsafe_code)]

use super::{Backfiller, FixedString, Micros};

/// Databases the launcher can keep an eye on.
pub const DATABASES: usize = 256;

/// What is known about the extension in a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Extension {
    /// Nobody has looked since the server started, or something has changed since.
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
    /// The oid of the extension whose indices have lanes here; 0 when there is none or nobody has looked.
    pub extension_oid: u32,
    /// A count of the tables is wanted: the counters may be off.
    pub recount: bool,
    /// The process that counts; 0 while none does, -1 while one is awaited.
    pub counter: i32,
    /// Since when a counting process is awaited.
    pub counter_since: Micros,
    /// No count is started before this time.
    pub recount_at: Micros,
    /// Counts that were not finished, one after the other.
    pub failed_counts: u32,
    /// When the whole queue was last looked through.
    pub swept_at: Micros,
    /// Statements that want the database to themselves: no worker is started while there are any.
    pub vacating_statements: u32,
    /// The statements have been forgotten if they have not ended by then.
    pub vacated_until: Micros,
    /// Workers that ended in failure one after the other.
    pub crashes: u32,
    /// No worker is started before this time.
    pub restart_at: Micros,
    /// The process that sends history.
    pub backfiller: Backfiller,
    /// Where deliveries go, as a number; 0: there has been nowhere yet.
    pub destination: u64,
    /// Why workers could not work, until one can.
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

    /// Whether somebody wants the database to itself.
    pub fn is_vacated(&self, now: Micros) -> bool {
        self.vacating_statements > 0 && self.vacated_until > now
    }
}
