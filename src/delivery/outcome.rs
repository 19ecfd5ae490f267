//! What a delivery came to, over all its attempts. The rows of its batch are settled by this value.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::delivery::offending_record::OffendingRecord;

/// The outcome of a delivery. Reasons are for operators: one printable line of bounded length, without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// Algolia has queued the whole batch.
    Delivered {
        /// The indexing task, if the answer named one.
        task_id: Option<i64>,
    },
    /// The rows are to be sent again: Algolia throttles, no host could be reached or gave a proper answer, or memory was
    /// lacking. A record may be the cause of a failure on the way; see [`TransitFailure`]. A host may have executed
    /// the request nevertheless.
    Retry {
        /// What happened at each host that was tried.
        reason: String,
        /// The shortest pause that a host asks for, if all of them ask; at most an hour.
        not_before: Option<Duration>,
    },
    /// Nothing was queued because of a record of the batch, or because of the batch's size (status 413, no record
    /// named; smaller batches may pass). If the batch has one row, that row is at fault.
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
        /// The response in words.
        reason: String,
        /// What to change.
        hint: &'static str,
        /// The HTTP status; none if nothing was sent.
        status: Option<u16>,
    },
}

/// Whether a delivery failed in transit, and so perhaps because of one of its records, which something on the way cannot
/// handle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransitFailure {
    /// No: nobody has seen a record, or Algolia asks for patience.
    #[default]
    None,
    /// The connection broke, or no proper answer came. An outage looks the same.
    Unanswered,
    /// A proxy, gateway or firewall has refused the request with this HTTP status, and so has every other host's that
    /// received it.
    Refused(u16),
}

impl TransitFailure {
    /// Combines the failures at two hosts.
    #[must_use]
    pub fn and(self, other: TransitFailure) -> TransitFailure {
        match (self, other) {
            (TransitFailure::None, other) | (other, TransitFailure::None) => other,
            (TransitFailure::Refused(_), TransitFailure::Refused(status)) => TransitFailure::Refused(status),
            _ => TransitFailure::Unanswered,
        }
    }
}

/// A record that was rejected when it was sent alone, or that Algolia has named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Its place in the batch.
    pub row: usize,
    /// Its objectID.
    pub object_id: Option<String>,
    /// The HTTP status.
    pub status: u16,
    /// Algolia's complaint.
    pub reason: String,
    /// Whether the rejection is certainly about this record: it names the record, or other records of the batch were
    /// accepted.
    pub proven: bool,
}

/// The result of sending a batch, row by row and with figures for the statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendResult {
    /// The outcome of the rows that are in neither of the lists below; see [`bisect`](crate::delivery::bisect::bisect).
    pub outcome: DeliveryOutcome,
    /// Places of rows that were delivered in parts of the batch.
    pub delivered: Vec<usize>,
    /// The latest indexing task of those parts, if the answers named any.
    pub last_task: Option<i64>,
    /// The rows at fault.
    pub rejected: Vec<Rejection>,
    /// For [`DeliveryOutcome::Retry`]: whether a record may be at fault.
    pub transit_failure: TransitFailure,
    /// The last host tried, with its port; empty if none was.
    pub host: String,
    /// How many requests were sent.
    pub attempts: u32,
    /// The length of the last request's body, as sent.
    pub wire_bytes: usize,
    /// Whether a request may still be executed, even after whatever is sent next.
    pub may_come_late: bool,
    /// Whether the delivery stopped for lack of memory.
    pub short_of_memory: bool,
}

impl SendResult {
    /// The result of a batch that shared one outcome as a whole, as far as nothing else is known.
    #[must_use]
    pub fn of(outcome: DeliveryOutcome) -> SendResult {
        SendResult {
            outcome,
            delivered: Vec::new(),
            last_task: None,
            rejected: Vec::new(),
            transit_failure: TransitFailure::None,
            host: String::new(),
            attempts: 0,
            wire_bytes: 0,
            may_come_late: false,
            short_of_memory: false,
        }
    }
}
