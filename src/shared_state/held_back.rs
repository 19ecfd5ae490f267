//! Rows held back: ordinary claims leave them out. They are sent in batches of their own, when their next attempt is
//! due.
//!
//! There are two kinds: the suspects of an index, see [`SuspectSearch`], and isolated records. A record is isolated
//! when the search has found it, when Algolia has rejected it and may be asked again (`audit_algolia.max_attempts`), or
//! when the server cannot process it, because it is damaged or memory is lacking.
//!
//! In the claim table, rows held back are held by their entry, also while they are in flight. So only a worker that
//! [`SharedState::next`] has given the entry can claim them. If the server's memory is lost, the rows wait like any
//! others and their attempts are counted anew, which does no harm.
#![forbid(unsafe_code)]

use super::{Micros, SuspectSearch};
use crate::id_ranges::{IdRanges, Span};

/// How many sets of rows can be held back at a time, over all databases. When all entries are taken, a rejected record
/// becomes a dead letter at once, and suspects stay in one set.
pub const HELD_BACK: usize = 256;

/// A set of rows that are held back. All zeroes is a free entry.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct HeldBack {
    /// The database's oid; 0 marks a free entry.
    pub database: u32,
    pub index_id: i32,
    /// The place of its lane, as long as that has not been closed.
    pub(super) lane: u32,
    /// How many rows there are. Some may have been superseded meanwhile.
    pub(super) rows: i64,
    /// How many of them are in flight.
    pub(super) in_flight: i64,
    /// The worker that has claimed from it, plus one.
    pub(super) worker: u32,
    /// The worker that has judged the record and is about to call [`SharedState::hold_back`], plus one.
    pub(super) judged_by: u32,
    /// Nobody may claim the rows before this time.
    pub(super) due: Micros,
    /// Nor before this time, because the objects of these versions are held.
    pub(super) held_until: Micros,
    pub(super) failed_at: Micros,
    /// It is a single record that is tried alone.
    pub(super) is_isolated: bool,
    /// For a single record: how often Algolia or a gateway has turned it down, and how often it has failed since it was found.
    pub(super) attempts: i32,
    pub(super) failures: u32,
    /// Rows were added since it was last claimed from.
    pub(super) has_grown: bool,
    /// The hash of the object that a single record is a version of; 0: none, or unknown.
    pub(super) object: i64,
    /// For suspects: the state of the search.
    pub(super) search: SuspectSearch,
    /// The latest claim found none of them.
    pub(super) is_missing: bool,
    /// The span that contains all of them.
    pub(super) hull: Span,
    /// Where they are looked for.
    pub(super) id_ranges: IdRanges,
}

/// What becomes of a rejected record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectAction {
    /// It becomes a dead letter, after this many attempts.
    DeadLetter(i32),
    /// It is tried again, after this many attempts.
    Retry(i32),
}

impl HeldBack {
    /// A free entry.
    pub const EMPTY: HeldBack = HeldBack {
        database: 0,
        index_id: 0,
        lane: 0,
        rows: 0,
        in_flight: 0,
        worker: 0,
        judged_by: 0,
        due: 0,
        held_until: 0,
        failed_at: 0,
        is_isolated: false,
        attempts: 0,
        failures: 0,
        has_grown: false,
        object: 0,
        search: SuspectSearch::NEW,
        is_missing: false,
        hull: Span { lo: i64::MAX, hi: i64::MIN },
        id_ranges: IdRanges::new(),
    };

    pub(super) fn is_of(&self, database: u32, index_id: i32) -> bool {
        self.database == database && self.index_id == index_id
    }

    /// Whether it is the entry of this single record.
    pub(super) fn is_record(&self, database: u32, index_id: i32, id: i64) -> bool {
        self.is_isolated && self.is_of(database, index_id) && self.hull == Span { lo: id, hi: id }
    }

    /// Adds a row to those that are looked for.
    pub(super) fn add(&mut self, id: i64) {
        self.id_ranges.add(id, id);
        self.hull = Span { lo: self.hull.lo.min(id), hi: self.hull.hi.max(id) };
    }
}
