//! What a claim in progress has entered into shared state, so that it can be taken back.

use std::collections::HashSet;

use super::claimed::FailedClaim;
use crate::pg::shmem;
use crate::shared_state::CrashRetry;

/// The rows and objects that a claim has entered into shared state so far.
pub(super) struct ClaimEntries {
    pub(super) slot: usize,
    pub(super) lane: usize,
    /// These rows may have crashed the server.
    pub(super) crash_retry: Option<CrashRetry>,
    pub(super) ids: Vec<i64>,
    /// The hashes of the claimed objects.
    pub(super) objects: HashSet<i64>,
    /// The batch's place among the worker's flights, once it has one.
    pub(super) flight: Option<usize>,
    /// The total size of the records taken.
    pub(super) bytes: usize,
}

impl ClaimEntries {
    pub(super) fn new(slot: usize, lane: usize, crash_retry: Option<CrashRetry>) -> ClaimEntries {
        ClaimEntries {
            slot,
            lane,
            crash_retry,
            ids: Vec::new(),
            objects: HashSet::new(),
            flight: None,
            bytes: 0,
        }
    }

    /// Ends all claims. Call this when no transaction has the rows locked any more, unless the span is not given back.
    pub(super) fn give_up(&self) {
        if let Some(mut shared_state) = shmem::shared_state() {
            shared_state.unclaim(self.slot, self.ids.iter().copied());
            shared_state.release_objects(self.slot, self.lane, self.objects.iter().copied());
        }
    }

    /// The claim has failed. If the batch is a flight already, the caller ends that.
    pub(super) fn failed(self, damage: Option<String>) -> FailedClaim {
        if self.flight.is_none() {
            self.give_up();
        }
        let objects = self.objects.into_iter().collect();
        FailedClaim { flight: self.flight, ids: self.ids, objects, bytes: self.bytes, damage }
    }
}
