//! The process of a database that sends history and makes repairs.
#![forbid(unsafe_code)]

use super::Micros;

/// A process that was asked for and has not come in this time never will.
const START_LIMIT: Micros = 20_000_000;

/// How the process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackfillerExit {
    /// There was nothing left to do.
    Done,
    /// Somebody stopped it: another is started.
    Stopped,
    /// An error: another is started after a pause.
    Failed,
}

/// Who sends the history of a database. All zeroes: nobody, and nothing to do.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Backfiller {
    /// Its process; 0 while there is none, -1 while one is awaited.
    pub pid: i32,
    /// There may be something to send, for which nobody has looked yet.
    pub wanted: bool,
    /// There are new repairs, for which nobody has looked yet.
    pub repairs: bool,
    /// Crashes, one after the other.
    pub crashes: u32,
    /// The address of its latch; 0 while there is no process.
    pub latch: u64,
    /// Since when a process is awaited, or is there.
    pub since: Micros,
    /// None is started before this time.
    pub restart_at: Micros,
    /// It wants to be woken when an index has no more than so many rows waiting; 0: it does not.
    pub low_water: i64,
}

impl Backfiller {
    /// None.
    pub const EMPTY: Backfiller = Backfiller {
        pid: 0,
        wanted: false,
        repairs: false,
        crashes: 0,
        latch: 0,
        since: 0,
        restart_at: 0,
        low_water: 0,
    };

    /// When a process is to be started, if one is.
    pub fn starts_at(&self) -> Option<Micros> {
        match self.pid {
            0 if self.wanted || self.repairs => Some(self.restart_at),
            // It should have come long ago.
            -1 => Some(self.since.saturating_add(START_LIMIT)),
            _ => None,
        }
    }
}
