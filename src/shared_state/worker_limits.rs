//! How much a worker may take on, by its settings.
#![forbid(unsafe_code)]

use super::Micros;

/// What a worker can handle at the moment.
#[derive(Clone, Copy, Debug)]
pub struct WorkerLimits {
    /// Requests it may have in flight (`audit_algolia.in_flight`).
    pub slots: usize,
    pub batch_rows: i64,
    /// The largest request body (`audit_algolia.batch_bytes`).
    pub batch_bytes: i64,
    pub linger: Micros,
    /// How long a request may still be executed after everybody has stopped waiting for it.
    pub quarantine: Micros,
    /// In percent.
    pub tail_share: u32,
}
