//! What a claim is to take, and its result.

use std::sync::Arc;

use pgrx::pg_sys;

use crate::delivery::batch::Batch;
use crate::delivery::http::HttpClient;
use crate::delivery::sink::Sink;
use crate::pg::worker::in_flight::InFlight;
use crate::pg::worker::limits::Limits;
use crate::shared_state::{Claimable, CrashRetry, FlushTarget};

/// What to claim, and for whom.
#[derive(Clone)]
pub(in crate::pg::worker) struct ClaimOrder {
    pub(in crate::pg::worker) slot: usize,
    pub(in crate::pg::worker) lane: usize,
    pub(in crate::pg::worker) index_id: i32,
    pub(in crate::pg::worker) claimable: Claimable,
    pub(in crate::pg::worker) limits: Limits,
    /// The rows may have crashed the server.
    pub(in crate::pg::worker) crash_retry: Option<CrashRetry>,
    /// The sink that will send the batch.
    pub(in crate::pg::worker) sink: Arc<Sink<HttpClient>>,
}

/// The outcome of a claim.
pub(in crate::pg::worker) enum ClaimOutcome {
    Claimed(Claimed),
    /// Nothing of the span could be claimed.
    Nothing,
    /// The claim table is full: all workers together hold as many rows as it has room for.
    TableFull,
    /// Memory is lacking for the batch, or some of its rows are damaged.
    Failed(FailedClaim),
    /// The extension has been dropped, and the queue with it.
    QueueGone,
}

/// A claimed batch. Its rows belong to this worker until they are settled or released.
pub(in crate::pg::worker) struct Claimed {
    /// Its place among the worker's flights.
    pub(in crate::pg::worker) flight: usize,
    pub(in crate::pg::worker) rows: InFlight,
    /// The request body.
    pub(in crate::pg::worker) body: Batch,
    /// How far the WAL must be flushed before the batch is sent.
    pub(super) flush_target: FlushTarget,
}

impl Claimed {
    /// Waits until no crash can undo a commit of these rows: some writers may not have waited for the WAL flush. If all
    /// have waited, there is nothing to do. Call this after the claiming transaction.
    pub(in crate::pg::worker) fn flush_wal(&self) {
        // SAFETY: flushes the WAL, outside of a transaction, up to an LSN that it contains. The end of our own commit,
        // that of the claim, is behind the commits of all rows that the claim has seen.
        unsafe {
            pg_sys::XLogFlush(match self.flush_target {
                FlushTarget::Until(place) => place,
                FlushTarget::All => pg_sys::XactLastCommitEnd,
            });
        }
    }
}

/// A batch for which memory was lacking, or that could not be read.
pub(in crate::pg::worker) struct FailedClaim {
    /// Its place among the worker's flights, if it became one.
    pub(in crate::pg::worker) flight: Option<usize>,
    pub(in crate::pg::worker) ids: Vec<i64>,
    /// The hashes of the claimed objects.
    pub(in crate::pg::worker) objects: Vec<i64>,
    pub(in crate::pg::worker) bytes: usize,
    /// The error about damaged rows; `None` if memory was lacking.
    pub(in crate::pg::worker) damage: Option<String>,
}
