//! The kinds of rows that wait, or that a worker has room for.
#![forbid(unsafe_code)]

/// The kinds of rows that may wait, or that a worker that sleeps would have room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ReadyWork {
    pub fresh: bool,
    pub backlog: bool,
    /// Rows of an index in trouble.
    pub trouble: bool,
}

impl ReadyWork {
    /// Whether the two have a kind in common.
    pub fn intersects(self, other: ReadyWork) -> bool {
        (self.fresh && other.fresh) || (self.backlog && other.backlog) || (self.trouble && other.trouble)
    }

    /// Whether there is any.
    pub fn any(self) -> bool {
        self.fresh || self.backlog || self.trouble
    }
}
