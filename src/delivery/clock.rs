//! The clock, as a parameter of whatever needs the time.
#![forbid(unsafe_code)]

use std::time::{Instant, SystemTime};

/// Tells the time. Tests choose it.
pub trait Clock {
    /// For durations, such as how long a host has been down.
    fn instant(&self) -> Instant;
    /// For dates that a response names.
    fn system_time(&self) -> SystemTime;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn instant(&self) -> Instant {
        Instant::now()
    }

    fn system_time(&self) -> SystemTime {
        SystemTime::now()
    }
}
