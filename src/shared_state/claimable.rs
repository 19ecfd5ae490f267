//! What a worker is given to claim.
#![forbid(unsafe_code)]

use crate::id_ranges::Span;

/// Which end of the queue a batch is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The newest rows, the rule.
    Newest,
    /// The oldest rows, the share that keeps the tail moving (`audit_algolia.tail_share`).
    Oldest,
}

/// What a worker is to claim next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimable {
    pub span: Span,
    pub end: End,
    /// The span was committed since the last look: it may use the request slot kept for fresh rows.
    pub fresh: bool,
    /// Only these rows of the span are meant.
    pub apart: Option<Apart>,
}

/// Rows held back that are to be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Apart {
    /// Where their entry is.
    pub place: usize,
    /// No more than so many.
    pub most: i64,
}
