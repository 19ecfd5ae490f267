//! Makes a settlement of a result: which rows arrived, which become dead letters, and which are tried again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::backoff::later;
use super::problem::Problem;
use super::state::WorkerLoop;
use crate::delivery::classify::ASK_THE_GATEWAY;
use crate::delivery::outcome::{DeliveryOutcome, Rejection, SendResult, TransitFailure};
use crate::delivery::wording::shorten;
use crate::pg::clock::now;
use crate::pg::worker::in_flight::{InFlight, UnsendableReason};
use crate::pg::worker::settlement::{DeadLetter, LaneBackoff, Settlement};
use crate::pg::{guc, shmem};
use crate::shared_state::{LaneFailure, RejectAction};

/// The most characters of an answer if a hint follows.
const MOST_OF_A_REASON: usize = 220;

impl WorkerLoop {
    /// Decides what becomes of the rows of a batch.
    pub(super) fn settlement_of(
        &mut self,
        flight: usize,
        in_flight: InFlight,
        result: SendResult,
    ) -> Settlement {
        let SendResult {
            outcome,
            delivered,
            last_task,
            rejected,
            transit_failure,
            host,
            may_come_late,
            short_of_memory,
            ..
        } = result;
        if short_of_memory {
            self.batch_reduction.save(now());
        }
        let has_versions = in_flight.objects.iter().any(Option::is_some);
        let held_until = (may_come_late && has_versions).then(|| now().saturating_add(guc::quarantine()));
        let arrived = matches!(outcome, DeliveryOutcome::Delivered { .. });
        let whole = arrived && rejected.is_empty();
        let delivered = if arrived {
            let rejected: HashSet<usize> = rejected.iter().map(|rejection| rejection.row).collect();
            let rows = in_flight.ids.iter().enumerate().filter(|(place, _)| !rejected.contains(place));
            rows.map(|(_, id)| *id).collect()
        } else {
            delivered.iter().filter_map(|place| in_flight.ids.get(*place).copied()).collect()
        };
        let mut settlement = Settlement {
            flight,
            in_flight,
            delivered,
            dead: Vec::new(),
            rejected_retries: Vec::new(),
            unjudged_retries: Vec::new(),
            last_rejection: None,
            backoff: None,
            transit_failure: TransitFailure::None,
            isolated: false,
            task: match outcome {
                DeliveryOutcome::Delivered { task_id } => task_id.max(last_task),
                _ => last_task,
            },
            superseded: 0,
            held_until,
        };
        settlement.doubt_versions();
        self.note_batch(&host, settlement.delivered.len(), whole);
        // What an old sink has delivered counts. Its failures mean nothing for the new one.
        let outdated = !self.sink.as_ref().is_some_and(|sink| Arc::ptr_eq(sink, &settlement.in_flight.sink));
        self.judge_rejections(&mut settlement, if outdated { Vec::new() } else { rejected });
        let backoff = match outcome {
            _ if outdated => None,
            DeliveryOutcome::Delivered { .. } | DeliveryOutcome::Rejected { .. } => None,
            DeliveryOutcome::Retry { reason, not_before } => {
                let reason = match transit_failure {
                    TransitFailure::Refused(_) => {
                        format!("{}; {ASK_THE_GATEWAY}", shorten(&reason, MOST_OF_A_REASON))
                    }
                    _ => reason,
                };
                let at_least = not_before.unwrap_or_default();
                settlement.transit_failure = transit_failure;
                self.judge_isolated(&mut settlement, &reason, at_least);
                (!settlement.isolated).then_some(LaneBackoff { kind: LaneFailure::Retry, reason, at_least })
            }
            DeliveryOutcome::Blocked { reason, hint, .. } => Some(LaneBackoff {
                kind: LaneFailure::Blocked,
                reason: format!("{reason}; {hint}"),
                at_least: guc::backoff().max,
            }),
        };
        settlement.backoff = backoff.or(settlement.backoff);
        settlement
    }

    /// Decides which of the rejected rows become dead letters, and when the others are tried again.
    fn judge_rejections(&mut self, settlement: &mut Settlement, rejected: Vec<Rejection>) {
        let limit = guc::max_record_bytes();
        let mut damaged = Vec::new();
        for row in &settlement.in_flight.unsent {
            let (attempts, reason) = match &row.reason {
                UnsendableReason::Damaged(damage) => {
                    damaged.push((row.id, format!("its record cannot be read: {damage}")));
                    continue;
                }
                // The limit was raised after the claim: the row is given back, and the next claim sends it.
                UnsendableReason::TooLarge(bytes) if *bytes <= limit => continue,
                UnsendableReason::TooLarge(bytes) => (
                    0,
                    format!(
                        "record has {bytes} bytes, more than audit_algolia.max_record_bytes = {limit} allows"
                    ),
                ),
                UnsendableReason::Crashes(crashes) => (
                    i32::try_from(*crashes).unwrap_or(i32::MAX),
                    format!("a worker has crashed {crashes} times while it delivered this record alone"),
                ),
            };
            settlement.last_rejection = Some(reason.clone());
            let (id, object_id, object) = (row.id, row.object_id.clone(), row.object.clone());
            settlement.dead.push(DeadLetter { id, object_id, object, attempts, status: None, reason });
        }
        for (id, reason) in damaged {
            self.hold_back_unprocessable(settlement, id, &reason, Problem::damage);
        }
        if rejected.is_empty() {
            return;
        }
        let (now, backoff, rows) = (now(), guc::backoff(), settlement.in_flight.ids.len());
        let Some(mut shared_state) = shmem::shared_state() else { return };
        for Rejection { row, object_id, status, reason, proven } in rejected {
            let Some(id) = settlement.in_flight.ids.get(row).copied() else { continue };
            let object = settlement.in_flight.objects.get(row).cloned().flatten();
            settlement.last_rejection = Some(reason.clone());
            match shared_state.judge_rejection(
                self.slot,
                settlement.in_flight.index_id,
                id,
                guc::max_attempts(),
            ) {
                RejectAction::DeadLetter(_)
                    if !proven && !shared_state.may_dead_letter(self.slot, settlement.flight, rows, now) =>
                {
                    let reason = format!("{reason} (names no record, and none of {rows} was accepted)");
                    let at_least = Duration::ZERO;
                    settlement.backoff =
                        Some(LaneBackoff { kind: LaneFailure::UnattributedRejections, reason, at_least });
                }
                RejectAction::DeadLetter(attempts) => {
                    let status = Some(status);
                    settlement.dead.push(DeadLetter { id, object_id, object, attempts, status, reason });
                }
                RejectAction::Retry(attempts) => {
                    let failures = u32::try_from(attempts - 1).unwrap_or(0);
                    settlement
                        .rejected_retries
                        .push((id, later(now, backoff.delay(failures, self.rng.f64()))));
                }
            }
        }
    }

    fn note_batch(&self, host: &str, rows: usize, well: bool) {
        if let Some(mut shared_state) = shmem::shared_state() {
            if let Some(me) = shared_state.workers.get_mut(self.slot) {
                me.host.set(host);
                me.batches_total += 1;
                me.rows_total += rows as i64;
                if !well {
                    me.errors_total += 1;
                }
            }
        }
    }
}
