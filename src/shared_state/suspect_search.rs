//! The search for a record that does not get through to Algolia, among the rows of batches that failed on the way.
//!
//! A proxy may reset the connection because of one text, or answer it with a page of its own. To the sender this looks
//! like an outage. So the rows of a failed batch are held back: each index has one set of **suspects**, with one
//! request at a time, while everything else of the index is delivered. When something else arrives, it is no outage.
//! Then smaller and smaller parts of the set are sent, from both ends in turn. A part that arrives leaves the set, and
//! the next part is larger. A record that fails alone is isolated.
//!
//! While nothing of the index arrives, it may be an outage. Then the set is tried only as often as the backoff allows:
//! the whole set at first, then less each time, so that the record is found even if its batch is all there is. After
//! the first success the next part is the whole set again.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::{Micros, QueueEnd};
use crate::delivery::backoff::Backoff;
use crate::id_ranges::{IdRanges, Span};

/// After something has arrived, this many failures in a row do not extend the pause. Halving finds one record among a
/// thousand in ten.
const QUICK: u32 = 12;
/// While nothing arrives, the whole set is tried this often before smaller parts are.
const PATIENT: u32 = 3;

/// How long to wait after a failure.
#[derive(Clone, Copy, Debug)]
pub struct RetryDelay {
    /// The bounds of the delay.
    pub backoff: Backoff,
    /// A random number from 0 to 1.
    pub jitter: f64,
    /// The pause that was asked for.
    pub at_least: Duration,
}

impl RetryDelay {
    pub(super) fn ends_at(&self, failures: u32, now: Micros) -> Micros {
        let delay = self.backoff.delay(failures, self.jitter).max(self.at_least).as_micros();
        now.saturating_add(Micros::try_from(delay).unwrap_or(Micros::MAX))
    }
}

/// The state of a search. All zeroes is a search that has not begun.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct SuspectSearch {
    /// How many rows are sent next; 0: as many as fit into a batch.
    pub(super) portion: i64,
    /// The next part is taken from the oldest rows.
    pub(super) from_oldest: bool,
    /// Failures in a row since rows of the index arrived.
    pub(super) streak: u32,
    /// Rows of the index have arrived since the set first failed.
    pub(super) is_no_outage: bool,
}

impl SuspectSearch {
    /// A search that has not begun.
    pub const NEW: SuspectSearch =
        SuspectSearch { portion: 0, from_oldest: false, streak: 0, is_no_outage: false };

    /// How many rows are sent next.
    pub(super) fn portion(&self) -> i64 {
        match self.portion {
            0 => i64::MAX,
            portion => portion,
        }
    }

    /// Where the next part is taken from, and from which end.
    pub(super) fn place(&self, id_ranges: &IdRanges) -> Option<(Span, QueueEnd)> {
        if self.portion == 1 && !self.is_no_outage {
            // Several records may be at fault, also at both ends, so the next row is chosen by a hash of the failures.
            let hash = (u64::from(self.streak)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16;
            let places = id_ranges.iter().count() as u64;
            let Span { lo, hi } = id_ranges.iter().nth(hash.checked_rem(places)? as usize)?;
            let width = hi.abs_diff(lo).saturating_add(1);
            return Some((Span { lo, hi: lo.saturating_add_unsigned(hash % width) }, QueueEnd::Newest));
        }
        match self.from_oldest {
            true => Some((id_ranges.oldest()?, QueueEnd::Oldest)),
            false => Some((id_ranges.newest()?, QueueEnd::Newest)),
        }
    }

    /// Whether rows of the index have arrived since the set first failed.
    pub(super) fn is_no_outage(&self) -> bool {
        self.is_no_outage
    }

    /// A part was delivered.
    pub(super) fn arrived(&mut self) {
        self.portion = if self.is_no_outage { self.portion.saturating_mul(2) } else { 0 };
        self.is_no_outage = true;
        self.streak = 0;
    }

    /// A part of `rows` rows has failed. `others_arrive`: other rows of the index have arrived since the failure
    /// before. Returns whether the part cannot be divided further.
    pub(super) fn failed(&mut self, rows: i64, others_arrive: bool) -> bool {
        if others_arrive {
            self.is_no_outage = true;
            self.streak = 0;
        }
        self.streak = self.streak.saturating_add(1);
        self.is_no_outage &= self.streak <= QUICK;
        if !self.is_no_outage && self.streak < PATIENT {
            return false;
        }
        self.portion = (rows / 2).max(1);
        self.from_oldest = !self.from_oldest;
        rows <= 1
    }

    /// The failures that count for the pause before the next attempt.
    pub(super) fn failures(&self) -> u32 {
        if self.is_no_outage {
            0
        } else {
            self.streak
        }
    }
}
