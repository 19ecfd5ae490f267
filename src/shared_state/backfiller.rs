//! The process of a database that sends history and makes repairs.
#![forbid(unsafe_code)]

use super::Micros;

/// A process that has not started within this time is given up.
const START_LIMIT: Micros = 20_000_000;

/// How the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackfillerExit {
    /// There was nothing left to do.
    Done,
    /// Somebody stopped it: it is started again.
    Stopped,
    /// It failed: it is started again after a pause.
    Failed,
}

/// The process that sends the history of a database and makes its repairs. All zeroes: there is no process, and nothing
/// to do.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Backfiller {
    /// The process id; 0: none, -1: being started.
    pub pid: i32,
    /// There may be a backfill that has not been looked at.
    pub wanted: bool,
    /// There may be repairs that have not been looked at.
    pub repairs: bool,
    /// The number of crashes in a row.
    pub crashes: u32,
    /// The address of its latch; 0 while there is no process.
    pub latch: u64,
    /// When it was requested or, once it runs, when it started.
    pub since: Micros,
    /// It is not started before this time.
    pub restart_at: Micros,
    /// It wants to be woken when the queue of an index has fallen to this many rows; 0: it does not.
    pub low_water: i64,
}

impl Backfiller {
    /// No process.
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

    /// When the process is to be started, if it is.
    pub fn starts_at(&self) -> Option<Micros> {
        match self.pid {
            0 if self.wanted || self.repairs => Some(self.restart_at),
            // It should have started long ago.
            -1 => Some(self.since.saturating_add(START_LIMIT)),
            _ => None,
        }
    }
}
