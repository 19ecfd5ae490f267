//! Whether rejections that name no record are the records' fault, or the fault of something between them and the index.
//!
//! A gateway may answer every batch with `400 Bad Request`, and an index may take no writes for a while. Either rejects
//! all records alike. Only a delivery proves that a rejection was about its record. Without such proof a few records
//! may become dead letters, so that a lone bad record does not stay for ever. The others wait for a delivery; after it,
//! as many may become dead letters as had to wait before.
#![forbid(unsafe_code)]

use super::Micros;

/// How many records may become dead letters without proof, and how large their batch may be at most.
const MAX_UNPROVEN: i64 = 10;

/// How long after a delivery the records that had been rejected before it may become dead letters.
const PROOF_LASTS: Micros = 60_000_000;

/// What a lane knows about rejections that named no record. All zeroes is a lane without any.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct UnattributedRejections {
    /// The dead letters since the latest delivery.
    dead: i64,
    /// The size of the largest batch since then of which a record had to wait.
    largest_waiting: i64,
    /// How many records may become dead letters, because a delivery has proven that the index accepts records.
    proven: i64,
    /// When that was proven.
    proven_at: Micros,
}

impl UnattributedRejections {
    /// No rejections.
    pub const NONE: UnattributedRejections =
        UnattributedRejections { dead: 0, largest_waiting: 0, proven: 0, proven_at: 0 };

    /// Whether a record may become a dead letter that was rejected without being named, in a batch of `batch` rows of
    /// which none was accepted.
    pub fn may_dead_letter(&mut self, batch: i64, now: Micros) -> bool {
        let proven = self.still_proven(now);
        let most = if batch <= MAX_UNPROVEN { proven.max(MAX_UNPROVEN) } else { proven };
        let may_dead_letter = self.dead < most;
        if may_dead_letter {
            self.dead += 1;
        } else {
            self.largest_waiting = self.largest_waiting.max(batch);
        }
        may_dead_letter
    }

    /// Whether records wait for the proof that the index accepts any.
    pub(super) fn are_waiting(&self) -> bool {
        self.largest_waiting > 0
    }

    /// `rows` rows were delivered.
    pub(super) fn delivered(&mut self, rows: i64, now: Micros) {
        let left = (self.still_proven(now) - self.dead).max(0);
        // If as many rows were delivered as had been rejected, they are most likely the same rows.
        *self = if self.largest_waiting > rows {
            UnattributedRejections {
                proven: self.largest_waiting.max(left),
                proven_at: now,
                ..UnattributedRejections::NONE
            }
        } else if self.largest_waiting > 0 {
            UnattributedRejections::NONE
        } else {
            UnattributedRejections { proven: left, proven_at: self.proven_at, ..UnattributedRejections::NONE }
        };
    }

    fn still_proven(&self, now: Micros) -> i64 {
        if (0..PROOF_LASTS).contains(&now.saturating_sub(self.proven_at)) {
            self.proven
        } else {
            0
        }
    }
}
