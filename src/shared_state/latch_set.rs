//! The latches that a change of shared state asks to be set.
#![forbid(unsafe_code)]

use super::WORKERS;

/// The latches to set after shared state is unlocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatchSet {
    latches: [u64; WORKERS + 3],
    count: usize,
}

impl Default for LatchSet {
    fn default() -> LatchSet {
        LatchSet { latches: [0; WORKERS + 3], count: 0 }
    }
}

impl LatchSet {
    /// Adds a latch. There is room for those of all workers, the launcher and a backfill process.
    pub fn add(&mut self, latch: u64) {
        if latch != 0 {
            if let Some(free) = self.latches.get_mut(self.count) {
                *free = latch;
                self.count += 1;
            }
        }
    }

    /// One latch, or none if it is 0.
    pub fn of(latch: u64) -> LatchSet {
        let mut latches = LatchSet::default();
        latches.add(latch);
        latches
    }

    /// The union of two sets.
    pub fn and(mut self, others: LatchSet) -> LatchSet {
        for latch in others.iter().filter(|latch| !self.iter().any(|mine| mine == *latch)).collect::<Vec<_>>()
        {
            self.add(latch);
        }
        self
    }

    /// The addresses to set.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.latches.iter().take(self.count).copied()
    }
}
