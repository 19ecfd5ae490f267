//! The span that a worker is given to claim rows from.
#![forbid(unsafe_code)]

use crate::id_ranges::Span;

/// Which end of the queue a batch is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueEnd {
    /// The newest rows, as usual.
    Newest,
    /// The oldest rows: the share that keeps the tail moving (`audit_algolia.tail_share`).
    Oldest,
}

/// What a worker claims next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimable {
    pub span: Span,
    pub end: QueueEnd,
    /// The span was committed since the last look. It may use the request slot that is kept for fresh rows.
    pub fresh: bool,
    /// It is fresh and may not fill a batch.
    pub partial: bool,
    /// Only these rows of the span may be claimed.
    pub held_back: Option<HeldBackClaim>,
}

impl Claimable {
    /// The part of the span that lies beyond the last row processed.
    pub fn rest(self, last: Option<i64>) -> Span {
        let Span { lo, hi } = self.span;
        match (self.end, last) {
            (_, None) => Span { lo, hi },
            (QueueEnd::Newest, Some(last)) => Span { lo, hi: last.saturating_sub(1) },
            (QueueEnd::Oldest, Some(last)) => Span { lo: last.saturating_add(1), hi },
        }
    }

    /// The part of the span that has been read, given the rest.
    pub fn looked_through(self, rest: Option<Span>) -> Span {
        let Span { lo, hi } = self.span;
        match (self.end, rest) {
            (_, None) => Span { lo, hi },
            (QueueEnd::Newest, Some(rest)) => Span { lo: rest.hi.saturating_add(1), hi },
            (QueueEnd::Oldest, Some(rest)) => Span { lo, hi: rest.lo.saturating_sub(1) },
        }
    }
}

/// Which rows held back are to be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBackClaim {
    /// The place of their entry.
    pub place: usize,
    /// At most this many.
    pub most: i64,
}
