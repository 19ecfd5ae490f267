//! Finds the records that Algolia refuses, so that the rest of their batch is delivered.
//!
//! Algolia refuses a batch as a whole and names the first offender at best. The named one is taken out and the rest is
//! sent again; where nobody is named, or only a place nearby, the batch is cut until a record stands alone. Records keep
//! their order. The number of requests is bounded: what is left then is claimed again, with fewer offenders in it.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use crate::delivery::batch::Batch;
use crate::delivery::culprit::{object_id, Culprit};
use crate::delivery::outcome::{Outcome, Refusal, Report};

/// Most requests for one batch. Halving finds a first offender among ten thousand in fifteen.
const ROUNDS: usize = 50;

/// Delivers a batch by `send`, and all of it that Algolia takes when it does not take the whole.
///
/// The report's outcome is that of the rows which are neither in `delivered` nor in `refused`; it is
/// [`Outcome::Rejected`] only when the search for offenders broke off at its bound.
pub fn isolate(batch: &Batch, mut send: impl FnMut(&Batch) -> Report) -> Report {
    let first = send(batch);
    let Outcome::Rejected { reason, status, culprit } = &first.outcome else {
        return first;
    };
    let mut search = Search { parts: VecDeque::new(), delivered: Vec::new(), refused: Vec::new() };
    search.cut((0..batch.rows()).collect(), batch, culprit, *status, reason);
    let mut report = first;
    let mut last_task = None;
    for _ in 1..ROUNDS {
        let Some(rows) = search.parts.pop_front() else {
            break;
        };
        let part = batch.subset(&rows);
        let Report { outcome, host, attempts, wire_bytes, may_come_late, .. } = send(&part);
        report.may_come_late |= may_come_late;
        report.attempts = report.attempts.saturating_add(attempts);
        (report.host, report.wire_bytes) = (host, wire_bytes);
        match &outcome {
            Outcome::Delivered { task_id } => {
                search.delivered.extend(rows);
                last_task = last_task.max(*task_id);
            }
            Outcome::Rejected { reason, status, culprit } => {
                search.cut(rows, &part, culprit, *status, reason);
                report.outcome = outcome;
            }
            // Nothing to be learned of records now; the rest waits with this part.
            Outcome::Retry { .. } | Outcome::Blocked { .. } => {
                report.outcome = outcome;
                search.parts.push_front(rows);
                return search.end(report);
            }
        }
    }
    if search.parts.is_empty() {
        report.outcome = Outcome::Delivered { task_id: last_task };
    }
    search.end(report)
}

/// A search under way. Rows are named by their places in the whole batch.
struct Search {
    /// What is still to be sent, in this order.
    parts: VecDeque<Vec<usize>>,
    delivered: Vec<usize>,
    refused: Vec<Refusal>,
}

impl Search {
    /// A part, whose records have these places in the batch, was refused: gives up who is certainly at fault and plans
    /// what to send instead.
    fn cut(&mut self, rows: Vec<usize>, part: &Batch, culprit: &Culprit, status: u16, reason: &str) {
        let named = culprit.rows_in(part);
        let refusal = |place: usize| {
            let object_id = part.record(place).and_then(object_id);
            rows.get(place).map(|row| Refusal { row: *row, object_id, status, reason: reason.to_owned() })
        };
        if rows.len() == 1 {
            self.refused.extend(refusal(0));
            return;
        }
        // An objectID that several records have names none of them.
        if let ([place], true) = (&named[..], culprit.is_certain()) {
            self.refused.extend(refusal(*place));
            let others = rows.iter().enumerate().filter(|(other, _)| other != place);
            self.plan([others.map(|(_, row)| *row).collect()]);
            return;
        }
        // Who is only suspected stands between those before and those after; without a suspect there are two halves.
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

    fn end(self, report: Report) -> Report {
        Report { delivered: self.delivered, refused: self.refused, ..report }
    }
}

#[cfg(test)]
#[path = "isolate_tests.rs"]
mod tests;
