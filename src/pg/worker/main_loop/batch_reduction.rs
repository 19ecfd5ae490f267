//! How much less a worker claims after there was no memory for a batch.

use crate::pg::worker::limits::Limits;
use crate::shared_state::Micros;

/// For so long batches stay small: memory that others have taken is not given back at once.
const LASTS: Micros = 10_000_000;

/// Halves batches for a while.
#[derive(Default)]
pub(super) struct BatchReduction {
    halvings: u32,
    until: Micros,
}

impl BatchReduction {
    /// There was no memory: half as much is claimed from now on.
    pub(super) fn save(&mut self, now: Micros) {
        self.halvings = self.halvings.saturating_add(1).min(30);
        self.until = now.saturating_add(LASTS);
    }

    /// What the next batch may be.
    pub(super) fn limit(&mut self, limits: Limits, now: Micros) -> Limits {
        if self.until <= now {
            self.halvings = 0;
        }
        let (rows, bytes) = (limits.rows >> self.halvings, limits.bytes >> self.halvings);
        Limits { rows: rows.max(1), bytes: bytes.max(1), ..limits }
    }
}
