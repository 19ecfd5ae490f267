//! Blocks of ids that each database has in reserve. Transactions take them one after the other, without a lock.
//!
//! The database's sequence stands at the end of its reserve. So blocks that are forgotten here, by a restart for instance,
//! are never handed out again, and the next reserve begins above them. A restore may set the sequence back; the end of the
//! last reserve is therefore kept here, too.
//!
//! A reserve is one word, so taking from it, refilling it and dropping it are one step each. Its owner is a second word. The
//! owner changes only while nobody can take blocks: when the database is dropped, or when its extension is created again.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::DATABASES;

/// How many blocks are reserved at a time: reserving takes a lock and writes WAL.
pub const RESERVED_BLOCKS: i64 = 256;

/// Whoever leaves this many blocks refills the reserve, while others take the rest.
pub const REFILL_AT: i64 = 64;

/// How many bits of the word hold the number of blocks left. The other bits hold the next block, so that has at most 47
/// bits. An id consists of a block and a place among its 1,024 ids; it must fit into the 53 bits of a double.
const LEFT_BITS: u32 = 16;
const LEFT: u64 = (1 << LEFT_BITS) - 1;

/// The reserves of all databases. All zeroes is a server that has just started.
#[repr(C)]
pub struct IdReserves {
    entries: [IdReserve; DATABASES],
}

/// The reserve of one database. All zeroes is a free entry.
#[repr(C, align(64))]
struct IdReserve {
    /// The oids of the database and of its sequence. After the extension is created anew, it has another sequence.
    owner: AtomicU64,
    /// The next block, and how many are left.
    blocks: AtomicU64,
}

/// A block taken from a reserve, and how many are left in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenBlock {
    pub block: i64,
    pub left: i64,
}

impl IdReserves {
    /// No reserves.
    pub const fn new() -> IdReserves {
        IdReserves {
            entries: [const { IdReserve { owner: AtomicU64::new(0), blocks: AtomicU64::new(0) } }; DATABASES],
        }
    }

    /// Takes the next block of a sequence; `None` if none is in reserve.
    pub fn take_block(&self, database: u32, sequence: u32) -> Option<TakenBlock> {
        let blocks = &self.of_sequence(database, sequence)?.blocks;
        let take = |word: u64| (word & LEFT > 0).then(|| word + (1 << LEFT_BITS) - 1);
        let taken = blocks.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).ok()?;
        Some(TakenBlock { block: next_of(taken), left: left_of(taken) - 1 })
    }

    /// Makes an entry for a sequence if it has none; `false` if there are too many databases. Only one process at a
    /// time may call this and [`IdReserves::put`] for a sequence.
    pub fn make_room(&self, database: u32, sequence: u32) -> bool {
        let owner = owner_of(database, sequence);
        if self.of_sequence(database, sequence).is_some() {
            return true;
        }
        if let Some(entry) = self.of_database(database) {
            // The entry of an extension that was dropped.
            entry.blocks.store(0, Ordering::Release);
            entry.owner.store(owner, Ordering::Release);
            return true;
        }
        let claim = |entry: &IdReserve| {
            entry.owner.compare_exchange(0, owner, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        self.entries.iter().any(claim)
    }

    /// Replaces the reserve of a sequence; `false` if there is no room.
    pub fn put(&self, database: u32, sequence: u32, blocks: &Range<i64>) -> bool {
        match (self.of_sequence(database, sequence), word_of(blocks)) {
            (Some(entry), Some(word)) => {
                entry.blocks.store(word, Ordering::Release);
                true
            }
            _ => false,
        }
    }

    /// Where the last reserve of a sequence ends: no block from there on has been used. 0 if there was none.
    pub fn end_of(&self, database: u32, sequence: u32) -> i64 {
        let known = self.of_sequence(database, sequence);
        known.map_or(0, |entry| end_of(entry.blocks.load(Ordering::Acquire)))
    }

    /// Drops the reserve of a database, because its sequence may have been set.
    pub fn drop_blocks(&self, database: u32) {
        if let Some(entry) = self.of_database(database) {
            let all_used = |word: u64| Some((end_of(word) as u64) << LEFT_BITS);
            let _always = entry.blocks.fetch_update(Ordering::AcqRel, Ordering::Acquire, all_used);
        }
    }

    /// Forgets a dropped database.
    pub fn forget(&self, database: u32) {
        if let Some(entry) = self.of_database(database) {
            entry.blocks.store(0, Ordering::Release);
            entry.owner.store(0, Ordering::Release);
        }
    }

    fn of_sequence(&self, database: u32, sequence: u32) -> Option<&IdReserve> {
        let owner = owner_of(database, sequence);
        self.entries.iter().find(|entry| entry.owner.load(Ordering::Acquire) == owner)
    }

    fn of_database(&self, database: u32) -> Option<&IdReserve> {
        let of = |entry: &&IdReserve| entry.owner.load(Ordering::Acquire) >> 32 == u64::from(database);
        self.entries.iter().find(of)
    }
}

impl Default for IdReserves {
    fn default() -> IdReserves {
        IdReserves::new()
    }
}

fn owner_of(database: u32, sequence: u32) -> u64 {
    (u64::from(database) << 32) | u64::from(sequence)
}

fn next_of(word: u64) -> i64 {
    (word >> LEFT_BITS) as i64
}

fn left_of(word: u64) -> i64 {
    (word & LEFT) as i64
}

fn end_of(word: u64) -> i64 {
    next_of(word) + left_of(word)
}

/// The word for these blocks; `None` if they do not fit.
fn word_of(blocks: &Range<i64>) -> Option<u64> {
    let start = u64::try_from(blocks.start).ok().filter(|start| *start < 1 << (63 - LEFT_BITS))?;
    let left = u64::try_from(blocks.end - blocks.start).ok().filter(|left| *left <= LEFT)?;
    Some((start << LEFT_BITS) | left)
}
