//! Ids in reserve: blocks of each database's sequence, which transactions take one after the other.
//!
//! The sequence itself stands at the end of what was last put in reserve. So whatever is forgotten here, by a restart for
//! instance, is never handed out again, and what is put in reserve next is above it.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::{Reserve, SharedState, DATABASES};

/// How many blocks are put in reserve at once: as many values as PostgreSQL logs ahead of a sequence (`SEQ_LOG_VALS`).
pub const RESERVE: i64 = 32;

impl SharedState {
    /// The next block of a sequence; `None` when there is none in reserve.
    pub fn take_block(&mut self, database: u32, sequence: u32) -> Option<i64> {
        let entry = self.reserves.iter_mut().find(|entry| entry.database == database)?;
        if entry.sequence != sequence || entry.next >= entry.end {
            return None;
        }
        entry.next += 1;
        Some(entry.next - 1)
    }

    /// Puts blocks in reserve, instead of what there was.
    pub fn reserve_blocks(&mut self, database: u32, sequence: u32, blocks: Range<i64>) {
        let known = self.reserves.iter().position(|entry| entry.database == database);
        let place = known
            .or_else(|| self.reserves.iter().position(|entry| entry.database == 0))
            // Too many databases: somebody else's are lost.
            .unwrap_or(database as usize % DATABASES);
        if let Some(entry) = self.reserves.get_mut(place) {
            *entry = Reserve { database, sequence, next: blocks.start, end: blocks.end };
        }
    }

    /// Forgets what a database has in reserve: the sequence may have been set.
    pub fn forget_blocks(&mut self, database: u32) {
        for entry in self.reserves.iter_mut().filter(|entry| entry.database == database) {
            *entry = Reserve::EMPTY;
        }
    }
}
