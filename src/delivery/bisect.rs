//! Finds the records that Algolia rejects, so that the rest of their batch is delivered.
//!
//! Algolia rejects a batch as a whole and at best names the first offender. A named record is taken out, and the rest
//! is sent again. If no record is named, or only a place near it, the batch is cut until a record is alone. Records
//! keep their order. The number of requests is limited; rows that are left over are claimed again.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use crate::delivery::batch::Batch;
use crate::delivery::offending_record::{object_id, OffendingRecord};
use crate::delivery::outcome::{DeliveryOutcome, Rejection, SendResult};

/// The most requests for one batch. Halving finds the first offender among ten thousand records in fifteen.
const ROUNDS: usize = 50;

/// A batch with more bytes than this is large.
const HALVE_BEYOND: usize = 1 << 20;

/// After this many rejections of single records that were not named, if no record was accepted, perhaps everything is
/// rejected. From then on the search looks for a record that is accepted, and no longer for offenders.
const DOUBTFUL: usize = 10;

/// Delivers a batch by `send`. If Algolia rejects it, delivers every part of it that Algolia accepts.
///
/// The result's outcome is that of the rows which are neither in `delivered` nor in `rejected`. It is
/// [`DeliveryOutcome::Rejected`] only if the search has left rows out.
pub fn bisect(batch: &Batch, mut send: impl FnMut(&Batch) -> SendResult) -> SendResult {
    let first = send(batch);
    let DeliveryOutcome::Rejected { reason, status, offending_record } = &first.outcome else {
        return first;
    };
    let mut bisection = Bisection::default();
    bisection.cut((0..batch.rows()).collect(), batch, offending_record, *status, reason);
    let mut report = first;
    for _ in 1..ROUNDS {
        let Some(rows) = bisection.next_part(batch) else {
            break;
        };
        let Ok(part) = batch.subset(&rows) else {
            let reason = "not enough memory to send a part of a batch".to_owned();
            report.outcome = DeliveryOutcome::Retry { reason, not_before: None };
            report.short_of_memory = true;
            bisection.parts.push_front(rows);
            return bisection.end(report);
        };
        let SendResult { outcome, transit_failure, host, attempts, wire_bytes, may_come_late, .. } =
            send(&part);
        report.may_come_late |= may_come_late;
        report.attempts = report.attempts.saturating_add(attempts);
        (report.transit_failure, report.host, report.wire_bytes) = (transit_failure, host, wire_bytes);
        match &outcome {
            DeliveryOutcome::Delivered { task_id } => {
                bisection.accepted(rows);
                bisection.last_task = bisection.last_task.max(*task_id);
            }
            DeliveryOutcome::Rejected { reason, status, offending_record } => {
                if bisection.is_doubtful() {
                    bisection.left_out = true;
                } else {
                    bisection.cut(rows, &part, offending_record, *status, reason);
                }
                report.outcome = outcome;
            }
            // This teaches nothing about records. The rest waits with this part.
            DeliveryOutcome::Retry { .. } | DeliveryOutcome::Blocked { .. } => {
                report.outcome = outcome;
                bisection.parts.push_front(rows);
                return bisection.end(report);
            }
        }
    }
    if bisection.parts.is_empty() && !bisection.left_out {
        report.outcome = DeliveryOutcome::Delivered { task_id: bisection.last_task };
    }
    bisection.end(report)
}

/// A search in progress. Rows are given by their places in the whole batch.
#[derive(Default)]
struct Bisection {
    /// The parts that are still to be sent, in this order.
    parts: VecDeque<Vec<usize>>,
    delivered: Vec<usize>,
    rejected: Vec<Rejection>,
    /// The latest indexing task of what was delivered.
    last_task: Option<i64>,
    /// Whether a rejected part was not searched.
    left_out: bool,
}

impl Bisection {
    /// Handles the rejection of a part, whose records have these places in the batch: gives up a record that is certainly
    /// at fault, and plans what to send instead.
    fn cut(
        &mut self,
        rows: Vec<usize>,
        part: &Batch,
        offending_record: &OffendingRecord,
        status: u16,
        reason: &str,
    ) {
        let named = offending_record.rows_in(part);
        let rejection = |place: usize| {
            let object_id = part.record(place).and_then(object_id);
            let (reason, proven) = (reason.to_owned(), named.contains(&place));
            rows.get(place).map(|row| Rejection { row: *row, object_id, status, reason, proven })
        };
        if rows.len() == 1 {
            self.rejected.extend(rejection(0));
            return;
        }
        // An objectID that several records share identifies none of them.
        if let ([place], true) = (&named[..], offending_record.is_certain()) {
            self.rejected.extend(rejection(*place));
            let others = rows.iter().enumerate().filter(|(other, _)| other != place);
            self.plan([others.map(|(_, row)| *row).collect()]);
            return;
        }
        // A suspect is sent alone, between the records before it and those after it. Without a suspect, the part is
        // halved.
        let (suspect, after) = match named.first() {
            Some(place) => (*place, *place + 1),
            None => (rows.len() / 2, rows.len() / 2),
        };
        let part = |range: std::ops::Range<usize>| rows.get(range).unwrap_or_default().to_vec();
        self.plan([part(0..suspect), part(suspect..after), part(after..rows.len())]);
    }

    fn plan<const N: usize>(&mut self, parts: [Vec<usize>; N]) {
        for part in parts.into_iter().rev().filter(|part| !part.is_empty()) {
            self.parts.push_front(part);
        }
    }

    /// The next part to send. Of a large batch, a part has at most half of the bytes unless it is a single record,
    /// because its copy and its compressed copy are in memory beside the whole.
    fn next_part(&mut self, batch: &Batch) -> Option<Vec<usize>> {
        let mut part = self.parts.pop_front()?;
        while part.len() > 1 && batch.bytes() > HALVE_BEYOND && batch.bytes_of(&part) > batch.bytes() / 2 {
            let rest = part.split_off(part.len() / 2);
            self.parts.push_front(rest);
        }
        Some(part)
    }

    /// Records that a part was accepted. If it is the first, records that were rejected without being named are tried
    /// once more: until now it was possible that everything is rejected.
    fn accepted(&mut self, rows: Vec<usize>) {
        if self.delivered.is_empty() {
            let (proven, doubtful): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.rejected).into_iter().partition(|rejection| rejection.proven);
            self.rejected = proven;
            for rejection in doubtful.into_iter().rev() {
                self.parts.push_front(vec![rejection.row]);
            }
        }
        self.delivered.extend(rows);
    }

    /// Whether it looks as if everything is rejected.
    fn is_doubtful(&self) -> bool {
        self.delivered.is_empty()
            && self.rejected.iter().filter(|rejection| !rejection.proven).count() >= DOUBTFUL
    }

    fn end(mut self, report: SendResult) -> SendResult {
        if !self.delivered.is_empty() {
            self.rejected.iter_mut().for_each(|rejection| rejection.proven = true);
        }
        SendResult { delivered: self.delivered, last_task: self.last_task, rejected: self.rejected, ..report }
    }
}

#[cfg(test)]
#[path = "bisect_tests.rs"]
mod tests;
