//! The latches that a change of shared state asks to be set.
#![forbid(unsafe_code)]

use super::WORKERS;

/// Latches to set once shared state's lock is released.
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
    /// Adds a latch. There is room for those of all workers, of the launcher and of who sends history.
    pub fn add(&mut self, latch: u64) {
        if latch != 0 {
            if let Some(free) = self.latches.get_mut(self.count) {
                *free = latch;
                self.count += 1;
            }
        }
    }

    /// One latch, or none.
    pub fn of(latch: Option<u64>) -> LatchSet {
        let mut latches = LatchSet::default();
        latches.add(latch.unwrap_or_default());
        latches
    }

    /// These and those.
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
