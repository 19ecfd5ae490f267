//! How much less a worker claims after there was not enough memory for a batch, or rows of an index were damaged.

use std::collections::HashMap;

use crate::pg::worker::limits::Limits;
use crate::shared_state::Micros;

/// How long batches stay small. Memory that others have taken is not freed at once, nor is damage repaired at once.
const LASTS: Micros = 10_000_000;
/// After this many halvings nothing is left to halve.
const MOST: u32 = 30;

/// Halves batches for a while.
///
/// Memory belongs to the process, so a lack of it concerns everything that it claims, and no other worker. Damage
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
    /// Memory is lacking: batches are halved from now on.
    pub(super) fn save(&mut self, now: Micros) {
        self.memory.add(now);
    }

    /// Rows of an index are damaged: its batches are halved from now on, so that the other rows are reached.
    pub(super) fn narrow(&mut self, index_id: i32, now: Micros) {
        self.damage.retain(|_, halvings| halvings.until > now);
        self.damage.entry(index_id).or_default().add(now);
    }

    /// The limits of the next batch of an index.
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

    /// The number of halvings that still apply.
    fn at(self, now: Micros) -> u32 {
        if self.until > now {
            self.count
        } else {
            0
        }
    }
}
