//! Why a row has no record.

#![forbid(unsafe_code)]

use crate::record::Overflow;
use thiserror::Error;

/// Why a row has no record. None of the messages shows a value.
#[derive(Debug, Error)]
pub enum RecordError {
    #[error("key column {} is null", part + 1)]
    NullKey {
        /// The key column's place, counted from 0.
        part: usize,
    },
    /// Algolia would make up an objectID of its own.
    #[error("the objectID is empty")]
    EmptyKey,
    #[error("no pseudonym key is set")]
    PseudonymKeyMissing,
    #[error("the pseudonym of field {} needs the value's output text", field + 1)]
    PseudonymNeedsText {
        /// The field's place in the layout, counted from 0.
        field: usize,
    },
    #[error("the key has {expected} columns, but {found} came")]
    KeyCount { expected: usize, found: usize },
    #[error("a record has {expected} fields, but {found} values came")]
    ValueCount { expected: usize, found: usize },
    #[error("there is no tracked attribute {place}")]
    NotTracked { place: usize },
    #[error("could not write JSON")]
    Json(#[from] serde_json::Error),
    #[error("the record does not fit: {0}")]
    Overflow(#[from] Overflow),
}
