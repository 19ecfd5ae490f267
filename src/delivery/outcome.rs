//! What a delivery came to, over all its attempts. The rows of its batch are settled by this value.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::delivery::offending_record::OffendingRecord;

/// What a delivery came to. Reasons are for operators: one bounded, printable line without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// Algolia has queued the whole batch.
    Delivered {
        /// The indexing task, if the answer named one.
        task_id: Option<i64>,
    },
    /// Nothing is wrong with the rows: throttled, or no host could be reached. Some host may have
    /// executed the request nevertheless.
    Retry {
        /// What each host that was tried had to say.
        reason: String,
        /// The shortest wait Algolia asks for, if all of it asks; at most an hour.
        not_before: Option<Duration>,
    },
    /// Nothing was queued because of a record of the batch, or because of the batch's size (status 413,
    /// no record named; smaller batches may pass). With one row, that row is to blame.
    Rejected {
        /// Algolia's complaint.
        reason: String,
        /// The HTTP status.
        status: u16,
        /// Which record, if the complaint names one; see [`OffendingRecord::rows_in`].
        offending_record: OffendingRecord,
    },
    /// Nothing can be delivered until somebody changes something.
    Blocked {
        /// What was answered.
        reason: String,
        /// What to change.
        hint: &'static str,
        /// The HTTP status; none if nothing was sent.
        status: Option<u16>,
    },
}

/// Whether a delivery may have failed because of one of its records, which something on the way does not bear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnattributedFailure {
    /// No record has been seen by anybody, or Algolia asks for patience.
    #[default]
    None,
    /// The connection broke, or no proper answer came: an outage looks the same.
    Unanswered,
    /// Somebody other than Algolia has refused the request, with this HTTP status, and so did everybody else who has seen
    /// it.
    Refused(u16),
}

impl UnattributedFailure {
    /// What two hosts make of it.
    #[must_use]
    pub fn and(self, other: UnattributedFailure) -> UnattributedFailure {
        match (self, other) {
            (UnattributedFailure::None, other) | (other, UnattributedFailure::None) => other,
            (UnattributedFailure::Refused(_), UnattributedFailure::Refused(status)) => {
                UnattributedFailure::Refused(status)
            }
            _ => UnattributedFailure::Unanswered,
        }
    }
}

/// A record that has been refused by itself, or that Algolia has named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its place in the batch.
    pub row: usize,
    /// Its objectID.
    pub object_id: Option<String>,
    /// The HTTP status.
    pub status: u16,
    /// Algolia's complaint.
    pub reason: String,
    /// It is certainly about this record: it names it, or other records of the batch have been taken.
    pub proven: bool,
}

/// A delivery, row by row and as statistics want it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendResult {
    /// What it came to, for the rows in neither of the lists below; see [`isolate`](crate::delivery::isolate).
    pub outcome: DeliveryOutcome,
    /// Places of rows that were delivered in parts of the batch.
    pub delivered: Vec<usize>,
    /// The latest indexing task of those parts, if the answers named any.
    pub last_task: Option<i64>,
    /// The rows at fault.
    pub refused: Vec<Refusal>,
    /// If it is to be tried again: whether a record may be at fault.
    pub unattributed_failure: UnattributedFailure,
    /// The last host tried, with its port; empty if none was.
    pub host: String,
    /// How many requests were sent.
    pub attempts: u32,
    /// The bytes of the body in the last request, as sent.
    pub wire_bytes: usize,
    /// Some request may still be executed, after whatever is sent next.
    pub may_come_late: bool,
    /// There was no memory to go on with.
    pub short_of_memory: bool,
}
