//! Whether rejections that name no record are the records' fault, or the fault of something between them and the index.
//!
//! A gateway may answer every batch with `400 Bad Request`, and an index may take no writes for a while. Either refuses
//! all records alike. Only a delivery proves that a rejection was about its record. Without such proof a few records
//! may become dead letters, so that a lone bad record does not stay for ever. The others wait for a delivery; after it,
//! as many may become dead letters as were spared before.
#![forbid(unsafe_code)]

use super::Micros;

/// Records that may die without proof, one after the other, and the most that a batch of such may have.
const LENIENCY: i64 = 10;

/// For how long after a delivery those that were refused may die.
const CLEARANCE: Micros = 60_000_000;

/// What a lane knows of refusals that named no record. All zeroes is a lane without any.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct UnattributedRejections {
    /// Records that have died without proof since the latest delivery.
    unproven: i64,
    /// Rows of the largest batch that has been spared since then.
    spared: i64,
    /// So many of those that were spared may die: their index has taken others.
    cleared: i64,
    /// When that was found out.
    cleared_at: Micros,
}

impl UnattributedRejections {
    /// No such refusal so far.
    pub const NONE: UnattributedRejections =
        UnattributedRejections { unproven: 0, spared: 0, cleared: 0, cleared_at: 0 };

    /// A record was refused without being named, and nothing of its batch of `batch` rows was taken: may it die?
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

    /// `rows` rows have arrived.
    pub(super) fn delivered(&mut self, rows: i64, now: Micros) {
        let left = (self.still_cleared(now) - self.unproven).max(0);
        // When no fewer have arrived than were refused, it is most likely they.
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
