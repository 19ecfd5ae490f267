//! Whom to wake.
#![forbid(unsafe_code)]

use super::WORKERS;

/// Latches to set once shared state's lock is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wakes {
    latches: [u64; WORKERS + 3],
    count: usize,
}

impl Default for Wakes {
    fn default() -> Wakes {
        Wakes { latches: [0; WORKERS + 3], count: 0 }
    }
}

impl Wakes {
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
    pub fn of(latch: Option<u64>) -> Wakes {
        let mut wakes = Wakes::default();
        wakes.add(latch.unwrap_or_default());
        wakes
    }

    /// These and those.
    pub fn and(mut self, others: Wakes) -> Wakes {
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
