//! How much less a worker claims after there was not enough memory for a batch, or rows of an index were damaged.

use std::collections::HashMap;

use crate::pg::worker::limits::Limits;
use crate::shared_state::Micros;

/// For so long batches stay small: memory that others have taken is not given back at once, nor is damage repaired.
const LASTS: Micros = 10_000_000;
/// After so many halvings nothing is left to halve.
const MOST: u32 = 30;

/// Halves batches for a while.
///
/// Memory is the process's own, so a lack of it concerns all that it claims, and nothing that other workers do. Damage
/// concerns the rows of one index.
#[derive(Default)]
pub(super) struct BatchReduction {
    memory: Halvings,
    damage: HashMap<i32, Halvings>,
}

#[derive(Clone, Copy, Default)]
struct Halvings {
    count: u32,
    until: Micros,
}

impl BatchReduction {
    /// There was no memory: half as much is claimed from now on.
    pub(super) fn save(&mut self, now: Micros) {
        self.memory.add(now);
    }

    /// Rows of an index are damaged: half as much is claimed of it from now on, so that others are reached.
    pub(super) fn narrow(&mut self, index_id: i32, now: Micros) {
        self.damage.retain(|_, halvings| halvings.until > now);
        self.damage.entry(index_id).or_default().add(now);
    }

    /// What the next batch of an index may be.
    pub(super) fn limit(&self, index_id: i32, limits: Limits, now: Micros) -> Limits {
        let damage = self.damage.get(&index_id).copied().unwrap_or_default();
        let halvings = self.memory.at(now).saturating_add(damage.at(now)).min(MOST);
        let (rows, bytes) = (limits.rows >> halvings, limits.bytes >> halvings);
        Limits { rows: rows.max(1), bytes: bytes.max(1), ..limits }
    }
}

impl Halvings {
    fn add(&mut self, now: Micros) {
        self.count = self.at(now).saturating_add(1).min(MOST);
        self.until = now.saturating_add(LASTS);
    }

    /// How many there are at this time.
    fn at(self, now: Micros) -> u32 {
        if self.until > now {
            self.count
        } else {
            0
        }
    }
}
