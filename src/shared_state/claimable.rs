//! The span that a worker is given to claim rows from.
#![forbid(unsafe_code)]

use crate::id_ranges::Span;

/// Which end of the queue a batch is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueEnd {
    /// The newest rows, the rule.
    Newest,
    /// The oldest rows, the share that keeps the tail moving (`audit_algolia.tail_share`).
    Oldest,
}

/// What a worker is to claim next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimable {
    pub span: Span,
    pub end: QueueEnd,
    /// The span was committed since the last look: it may use the request slot kept for fresh rows.
    pub fresh: bool,
    /// It is fresh, and its rows may be too few for a full batch.
    pub partial: bool,
    /// Only these rows of the span are meant.
    pub held_back: Option<HeldBackClaim>,
}

impl Claimable {
    /// What of the span lies beyond the last row dealt with.
    pub fn rest(self, last: Option<i64>) -> Span {
        let Span { lo, hi } = self.span;
        match (self.end, last) {
            (_, None) => Span { lo, hi },
            (QueueEnd::Newest, Some(last)) => Span { lo, hi: last.saturating_sub(1) },
            (QueueEnd::Oldest, Some(last)) => Span { lo: last.saturating_add(1), hi },
        }
    }

    /// What of the span has been looked through, if so much of it is left.
    pub fn looked_through(self, rest: Option<Span>) -> Span {
        let Span { lo, hi } = self.span;
        match (self.end, rest) {
            (_, None) => Span { lo, hi },
            (QueueEnd::Newest, Some(rest)) => Span { lo: rest.hi.saturating_add(1), hi },
            (QueueEnd::Oldest, Some(rest)) => Span { lo, hi: rest.lo.saturating_sub(1) },
        }
    }
}

/// Rows held back that are to be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBackClaim {
    /// Where their entry is.
    pub place: usize,
    /// No more than so many.
    pub most: i64,
}
