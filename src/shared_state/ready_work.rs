//! The kinds of rows that wait, or that a worker has room for.
#![forbid(unsafe_code)]

/// Kinds of rows: those that wait, or those that a sleeping worker has room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ReadyWork {
    pub fresh: bool,
    pub backlog: bool,
    /// Rows of an index whose latest attempt failed.
    pub trouble: bool,
}

impl ReadyWork {
    /// Whether both contain the same kind.
    pub fn intersects(self, other: ReadyWork) -> bool {
        (self.fresh && other.fresh) || (self.backlog && other.backlog) || (self.trouble && other.trouble)
    }

    /// Whether it contains any kind.
    pub fn any(self) -> bool {
        self.fresh || self.backlog || self.trouble
    }
}
