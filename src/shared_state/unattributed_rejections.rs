//! Whether rejections that name no record are the records' fault, or the fault of something between them and the index.
//!
//! A gateway may answer every batch with `400 Bad Request`, and an index may take no writes for a while. Either refuses
//! all records alike. Only a delivery proves that a rejection was about its record. Without such proof a few records
//! may become dead letters, so that a lone bad record does not stay for ever. The others wait for a delivery; after it,
//! as many may become dead letters as were spared before.
#![forbid(unsafe_code)]

use super::Micros;

/// How many records may become dead letters without proof, and how large their batch may be at most.
const LENIENCY: i64 = 10;

/// How long after a delivery the refused records of before may become dead letters.
const CLEARANCE: Micros = 60_000_000;

/// What a lane knows about refusals that named no record. All zeroes is a lane without any.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct UnattributedRejections {
    /// Dead letters without proof since the latest delivery.
    unproven: i64,
    /// The size of the largest batch that was spared since then.
    spared: i64,
    /// How many records may become dead letters, because the index has accepted others.
    cleared: i64,
    /// When that was found out.
    cleared_at: Micros,
}

impl UnattributedRejections {
    /// No refusals.
    pub const NONE: UnattributedRejections =
        UnattributedRejections { unproven: 0, spared: 0, cleared: 0, cleared_at: 0 };

    /// Whether a record may become a dead letter that was refused without being named, in a batch of `batch` rows of
    /// which none was accepted.
    pub fn may_dead_letter(&mut self, batch: i64, now: Micros) -> bool {
        let cleared = self.still_cleared(now);
        let allowed = if batch <= LENIENCY { cleared.max(LENIENCY) } else { cleared };
        let may_dead_letter = self.unproven < allowed;
        if may_dead_letter {
            self.unproven += 1;
        } else {
            self.spared = self.spared.max(batch);
        }
        may_dead_letter
    }

    /// `rows` rows were delivered.
    pub(super) fn delivered(&mut self, rows: i64, now: Micros) {
        let left = (self.still_cleared(now) - self.unproven).max(0);
        // If as many rows were delivered as had been refused, they are most likely the same rows.
        *self = if self.spared > rows {
            UnattributedRejections {
                cleared: self.spared.max(left),
                cleared_at: now,
                ..UnattributedRejections::NONE
            }
        } else if self.spared > 0 {
            UnattributedRejections::NONE
        } else {
            UnattributedRejections {
                cleared: left,
                cleared_at: self.cleared_at,
                ..UnattributedRejections::NONE
            }
        };
    }

    fn still_cleared(&self, now: Micros) -> i64 {
        if (0..CLEARANCE).contains(&now.saturating_sub(self.cleared_at)) {
            self.cleared
        } else {
            0
        }
    }
}
