//! What a claim is to take, and its result.

use std::sync::Arc;

use pgrx::pg_sys;

use crate::delivery::batch::Batch;
use crate::delivery::http::HttpClient;
use crate::delivery::sink::Sink;
use crate::pg::worker::in_flight::InFlight;
use crate::pg::worker::limits::Limits;
use crate::shared_state::{Claimable, CrashRetry, FlushTarget};

/// What is to be claimed, and for whom.
#[derive(Clone)]
pub(in crate::pg::worker) struct ClaimOrder {
    pub(in crate::pg::worker) slot: usize,
    pub(in crate::pg::worker) lane: usize,
    pub(in crate::pg::worker) index_id: i32,
    pub(in crate::pg::worker) claimable: Claimable,
    pub(in crate::pg::worker) limits: Limits,
    /// The rows may be why the server has crashed.
    pub(in crate::pg::worker) crash_retry: Option<CrashRetry>,
    /// By whom the batch will be sent.
    pub(in crate::pg::worker) sink: Arc<Sink<HttpClient>>,
}

/// What came of a claim.
pub(in crate::pg::worker) enum ClaimOutcome {
    Claimed(Claimed),
    /// Nothing of the span was left to claim.
    Nothing,
    /// All workers together hold as many rows as shared state can keep track of.
    TableFull,
    /// There was no memory for the batch, or rows of it are damaged.
    Failed(FailedClaim),
    /// The queue is no more: the extension has been dropped.
    QueueGone,
}

/// A claimed batch. Its rows belong to this worker until they are settled or released.
pub(in crate::pg::worker) struct Claimed {
    /// Its place among the worker's flights.
    pub(in crate::pg::worker) flight: usize,
    pub(in crate::pg::worker) rows: InFlight,
    /// What is sent of them.
    pub(in crate::pg::worker) body: Batch,
    /// How far the WAL must be flushed before the batch is sent.
    pub(super) flush_target: FlushTarget,
}

impl Claimed {
    /// Sees to it that no crash can take back a row of the batch: writers who do not wait for the disk may have queued
    /// some. Where everybody waits, there is nothing left to do. To be called after the claiming transaction.
    pub(in crate::pg::worker) fn flush_wal(&self) {
        // SAFETY: waits for the log, outside of a transaction, up to the end of a commit that it holds. Our own, of the
        // claim, comes after those of all rows that it has seen.
        unsafe {
            pg_sys::XLogFlush(match self.flush_target {
                FlushTarget::Until(place) => place,
                FlushTarget::All => pg_sys::XactLastCommitEnd,
            });
        }
    }
}

/// A batch that there was no memory for, or that cannot be read.
pub(in crate::pg::worker) struct FailedClaim {
    /// Its place among the worker's flights, if it has come so far.
    pub(in crate::pg::worker) flight: Option<usize>,
    pub(in crate::pg::worker) ids: Vec<i64>,
    /// The objects claimed, by their hashes.
    pub(in crate::pg::worker) objects: Vec<i64>,
    pub(in crate::pg::worker) bytes: usize,
    /// What the server says of rows that are damaged; nothing: there was no memory.
    pub(in crate::pg::worker) damage: Option<String>,
}
