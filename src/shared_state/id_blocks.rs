//! Ids in reserve: blocks of each database's sequence, which transactions take one after the other.
//!
//! The sequence itself stands at the end of what was last put in reserve. So whatever is forgotten here, by a restart for
//! instance, is never handed out again, and what is put in reserve next is above it. A restore sets the sequence back; so
//! where the last reserve ended is kept here, too.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::{IdReserve, SharedState, DATABASES};

/// How many blocks are put in reserve at once: as many values as PostgreSQL logs ahead of a sequence (`SEQ_LOG_VALS`).
pub const RESERVED_BLOCKS: i64 = 32;

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
            *entry = IdReserve { database, sequence, next: blocks.start, end: blocks.end };
        }
    }

    /// Where the last reserve of a sequence ended: all blocks from there on are unused. 0 if there has been none.
    pub fn end_of_reserve(&self, database: u32, sequence: u32) -> i64 {
        let known =
            self.reserves.iter().find(|entry| entry.database == database && entry.sequence == sequence);
        known.map_or(0, |entry| entry.end)
    }

    /// Hands out nothing more of what a database has in reserve: its sequence may have been set.
    pub fn drop_reserve(&mut self, database: u32) {
        for entry in self.reserves.iter_mut().filter(|entry| entry.database == database) {
            entry.next = entry.end;
        }
    }

    /// Forgets the reserve of a database that is no more.
    pub(super) fn forget_blocks(&mut self, database: u32) {
        for entry in self.reserves.iter_mut().filter(|entry| entry.database == database) {
            *entry = IdReserve::EMPTY;
        }
    }
}
