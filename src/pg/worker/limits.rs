//! What one request may carry.

/// The limits of one batch.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) rows: i64,
    pub(super) bytes: usize,
    /// The largest record.
    pub(super) record_bytes: usize,
}
