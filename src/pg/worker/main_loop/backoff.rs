//! What a failure means for the rows of an index: how long they wait, and what is logged.

use std::time::Duration;

use pgrx::prelude::*;

use super::state::WorkerLoop;
use crate::delivery::outcome::TransitFailure;
use crate::pg::clock::now;
use crate::pg::worker::in_flight::InFlight;
use crate::pg::worker::settlement::{DeadLetter, LaneBackoff, Settlement};
use crate::pg::{guc, shmem};
use crate::shared_state::{EndedFlight, LaneFailure, Micros, RejectAction};

/// The longest backoff after rejections that name no record: the records may be at fault, so later ones wait no longer
/// than this.
const MAX_UNATTRIBUTED_BACKOFF: Duration = Duration::from_secs(10);

impl WorkerLoop {
    /// A single record held back has failed on the way again: decides when it is tried next, or whether it becomes a
    /// dead letter.
    pub(super) fn judge_isolated(&mut self, settlement: &mut Settlement, reason: &str, at_least: Duration) {
        let status = match settlement.transit_failure {
            TransitFailure::None => return,
            TransitFailure::Unanswered => None,
            TransitFailure::Refused(status) => Some(status),
        };
        let ([id], Some(mut shared_state)) = (&settlement.in_flight.ids[..], shmem::shared_state()) else {
            return;
        };
        let (id, now, backoff) = (*id, now(), guc::backoff());
        let action = shared_state.judge_isolated(
            self.slot,
            settlement.flight,
            status.is_some(),
            guc::max_attempts(),
            now,
        );
        match action {
            None => return,
            Some(RejectAction::DeadLetter(attempts)) => {
                let object = settlement.in_flight.objects.first().cloned().flatten();
                let reason = reason.to_owned();
                settlement.dead.push(DeadLetter { id, object_id: None, object, attempts, status, reason });
            }
            Some(RejectAction::Retry(failures)) => {
                let pause = backoff.delay(u32::try_from(failures).unwrap_or(0), self.rng.f64());
                let due = later(now, pause.max(at_least));
                settlement.unjudged_retries.push((id, due.max(settlement.held_until.unwrap_or_default())));
            }
        }
        settlement.isolated = true;
        settlement.last_rejection = Some(isolated_reason(id, reason));
    }

    /// Rows held back have failed on the way again. Nothing else of the index waits for them.
    pub(super) fn note_held_back_failure(
        &mut self,
        in_flight: &InFlight,
        ended: Option<EndedFlight>,
        rows: usize,
        failure: &LaneBackoff,
        now: Micros,
    ) {
        let found = ended.and_then(|ended| ended.found);
        let reason = found.map_or_else(|| failure.reason.clone(), |id| isolated_reason(id, &failure.reason));
        let mut is_news = false;
        if let Some(mut shared_state) = shmem::shared_state() {
            if let Some(lane) = ended.and_then(|ended| shared_state.lane_at(ended.lane)) {
                lane.note_failed(rows as i64, &reason, now);
                is_news = found.is_some() && lane.should_log_isolated(now);
            }
            if let Some(me) = shared_state.workers.get_mut(self.slot) {
                me.last_error.set(&reason);
            }
        }
        if let (true, Some(index)) = (is_news, self.indices.get(&in_flight.index_id)) {
            log!(
                "audit_algolia cannot deliver a record to index \"{}\" and goes on with the others: {reason}",
                index.name
            );
        }
    }

    /// Makes the lane wait after a failure.
    pub(super) fn back_off(
        &mut self,
        in_flight: &InFlight,
        ended: Option<EndedFlight>,
        rows: usize,
        failure: &LaneBackoff,
        now: Micros,
    ) {
        let jitter = self.rng.f64();
        let mut is_news = false;
        if let Some(mut shared_state) = shmem::shared_state() {
            if let Some(lane) = ended.and_then(|ended| shared_state.lane_at(ended.lane)) {
                // A batch that was in flight together with another failed one does not extend the pause.
                let backoff = match (lane.started_before_failure(in_flight.started_at), failure.kind) {
                    (true, _) => Duration::ZERO,
                    (false, LaneFailure::UnattributedRejections) => {
                        guc::backoff().delay(lane.failures, jitter).min(MAX_UNATTRIBUTED_BACKOFF)
                    }
                    (false, _) => guc::backoff().delay(lane.failures, jitter),
                };
                let times = (in_flight.started_at, later(now, backoff.max(failure.at_least)));
                lane.back_off(failure.kind, rows as i64, &failure.reason, times, now);
                if ended.is_some_and(|ended| ended.held_back) {
                    // These rows are counted among those held back.
                    lane.retrying = lane.retrying.saturating_sub(rows as i64);
                }
                is_news = lane.should_log_failure(failure.kind, now);
            }
            if let Some(me) = shared_state.workers.get_mut(self.slot) {
                me.last_error.set(&failure.reason);
            }
        }
        if let (true, Some(index)) = (is_news, self.indices.get(&in_flight.index_id)) {
            let reason = &failure.reason;
            log!("audit_algolia cannot deliver to index \"{}\" and tries again: {reason}", index.name);
        }
    }
}

/// The message about a record that fails alone. Its id leads to the row of the queue.
pub(super) fn isolated_reason(id: i64, reason: &str) -> String {
    format!("row {id} of audit_algolia.queue alone: {reason}")
}

pub(super) fn later(now: Micros, delay: Duration) -> Micros {
    now.saturating_add(i64::try_from(delay.as_micros()).unwrap_or(i64::MAX))
}
