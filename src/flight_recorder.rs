//! What each worker has in flight, in memory that a crash of the server does not clear.
//!
//! When a process crashes, the postmaster stops all others and starts again with an empty shared state. The batch that
//! the dead worker had in flight may be the cause, and the next worker would claim it again. The flight recorder still
//! knows that batch: its rows are tried again alone and in smaller batches (`shared_state/crash_suspects.rs`). A worker
//! that the postmaster stops notes so, and its batches are not suspected.
//!
//! Like everything shared, it is valid as all zeroes.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};

use crate::id_ranges::Span;
use crate::shared_state::{FLIGHTS, WORKERS};

/// One batch in flight. All zeroes is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FlightRecord {
    pub database: u32,
    pub index_id: i32,
    /// The lowest and the highest id.
    pub span: Span,
    /// How many rows; 0: there is no batch.
    pub rows: i64,
    /// Whether some rows are versions of objects, which are held for a while after a crash.
    pub has_versions: bool,
    /// For a row that is tried alone: how often it will have crashed the server if it does so now.
    pub crashes: u32,
}

impl FlightRecord {
    const NONE: FlightRecord = FlightRecord {
        database: 0,
        index_id: 0,
        span: Span { lo: 0, hi: 0 },
        rows: 0,
        has_versions: false,
        crashes: 0,
    };
}

/// The batches of all workers.
#[repr(C)]
pub struct FlightRecords([[FlightRecord; FLIGHTS]; WORKERS]);

/// All that survives a crash.
#[repr(C)]
pub struct FlightRecorder {
    /// For each worker, whether the postmaster has told it to stop. Set by the signal handler.
    pub was_stopped: [AtomicBool; WORKERS],
    pub records: FlightRecords,
}

impl FlightRecords {
    /// Records a batch as in flight.
    pub fn enter(&mut self, worker: usize, flight: usize, record: FlightRecord) {
        if let Some(place) = self.0.get_mut(worker).and_then(|flights| flights.get_mut(flight)) {
            *place = record;
        }
    }

    /// Records the end of a flight.
    pub fn leave(&mut self, worker: usize, flight: usize) {
        self.enter(worker, flight, FlightRecord::NONE);
    }

    /// Forgets all batches of a worker that starts or ends normally.
    pub fn clear(&mut self, worker: usize) {
        if let Some(flights) = self.0.get_mut(worker) {
            flights
                .iter_mut()
                .filter(|record| record.rows != 0)
                .for_each(|record| *record = FlightRecord::NONE);
        }
    }
}

impl FlightRecorder {
    /// After a crash: takes the batches of the workers that were not told to stop, and forgets all others.
    pub fn take_crash_suspects(&mut self) -> Vec<FlightRecord> {
        let mut suspects = Vec::new();
        for (flights, was_stopped) in self.records.0.iter_mut().zip(&self.was_stopped) {
            let is_innocent = was_stopped.swap(false, Ordering::Relaxed);
            for record in flights.iter_mut().filter(|record| record.rows != 0) {
                if !is_innocent {
                    suspects.push(*record);
                }
                *record = FlightRecord::NONE;
            }
        }
        suspects
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorder() -> Box<FlightRecorder> {
        let was_stopped = [const { AtomicBool::new(false) }; WORKERS];
        Box::new(FlightRecorder {
            was_stopped,
            records: FlightRecords([[FlightRecord::NONE; FLIGHTS]; WORKERS]),
        })
    }

    fn record(lo: i64) -> FlightRecord {
        FlightRecord {
            database: 5,
            index_id: 1,
            span: Span { lo, hi: lo + 9 },
            rows: 10,
            has_versions: false,
            crashes: 0,
        }
    }

    #[test]
    fn only_what_a_worker_had_on_its_way_that_died_by_itself_is_suspected() {
        let mut recorder = recorder();
        recorder.records.enter(0, 0, record(100));
        recorder.records.enter(1, 0, record(200));
        recorder.records.enter(1, 7, record(300));
        recorder.records.enter(1, 8, record(400));
        recorder.records.leave(1, 7);
        recorder.records.enter(2, 0, record(500));
        recorder.records.clear(2);
        recorder.was_stopped[0].store(true, Ordering::Relaxed);
        assert_eq!(recorder.take_crash_suspects(), [record(200), record(400)]);
        assert_eq!(recorder.take_crash_suspects(), []);
        recorder.records.enter(0, 0, record(600));
        assert_eq!(recorder.take_crash_suspects(), [record(600)], "what it was told then is forgotten");
    }
}
