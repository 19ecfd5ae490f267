//! Deletes rows that arrived, and moves rejected ones to the dead letters.

use super::backoff::{isolated_reason, later};
use super::problem::{log_problem, Problem};
use super::state::WorkerLoop;
use crate::pg::clock::now;
use crate::pg::process;
use crate::pg::worker::settle::{dead_letter, settle};
use crate::pg::worker::settlement::{Deletion, LaneBackoff, SettleOutcome, Settlement};
use crate::pg::{guc, shmem};
use crate::shared_state::Micros;

/// Why delivered or rejected records cannot be removed from the queue.
const LOCKED: &str = "rows of the queue or dead letters are locked by somebody else";
/// Another such reason.
const NO_MEMORY: &str = "there is not enough memory";

impl WorkerLoop {
    /// Deletes delivered rows. A server error ends the process, and the rows are sent again.
    pub(super) fn delete_delivered(&mut self, settlements: &mut [Settlement]) {
        let Some(statements) = &self.statements else {
            // The extension has another version by now and its tables are not touched: the rows are sent again.
            settlements.iter_mut().for_each(|batch| batch.delivered.clear());
            return;
        };
        if settlements.iter().all(|batch| batch.delivered.is_empty()) {
            return;
        }
        process::report_activity(true, "deleting delivered rows");
        self.stats_pending = true;
        let mut delivered: Vec<Deletion> = {
            let shared_state = shmem::shared_state();
            let may_have_dead = |batch: &Settlement| {
                let lane = shared_state.as_ref().and_then(|shared_state| {
                    shared_state.lane(shared_state.lane_of_flight(self.slot, batch.flight)?)
                });
                lane.is_none_or(|lane| lane.dead != 0 || !lane.counted)
            };
            settlements.iter().map(|batch| batch.deletion(may_have_dead(batch))).collect()
        };
        let outcome = settle(statements, &mut delivered);
        if let Err(error) = &outcome {
            log_problem("audit_algolia could not delete delivered rows and sends them again", error);
        }
        self.queue_is_gone |= matches!(outcome, Ok(SettleOutcome::Gone));
        for (batch, settled) in settlements.iter_mut().zip(delivered) {
            let reason = match &outcome {
                Ok(SettleOutcome::Done) => {
                    batch.superseded = settled.superseded;
                    continue;
                }
                Ok(SettleOutcome::Partly) => {
                    if self.take_part(batch, settled) {
                        continue;
                    }
                    LOCKED.to_owned()
                }
                Ok(SettleOutcome::Busy) => LOCKED.to_owned(),
                Ok(SettleOutcome::OutOfMemory) => NO_MEMORY.to_owned(),
                Ok(SettleOutcome::Damaged(damage)) => damage.clone(),
                Ok(SettleOutcome::Gone) => String::new(),
                Err(error) => error.to_string(),
            };
            if !matches!(outcome, Ok(SettleOutcome::Partly)) {
                batch.delivered.clear();
            }
            if !self.queue_is_gone {
                batch.backoff = Some(LaneBackoff::pause(reason));
            }
        }
    }

    /// Takes over which rows of a batch were deleted. Rows that cannot be deleted because of damage are held back: each
    /// is sent again from time to time until it can be deleted. Rows that are locked and are no versions are skipped as
    /// long as they are locked. Returns whether that covers all rows; otherwise the index must wait, so that the others
    /// are not sent again and again.
    fn take_part(&mut self, batch: &mut Settlement, settled: Deletion) -> bool {
        let wanted = batch.delivered.len();
        batch.delivered = settled.rows().collect();
        batch.superseded = settled.superseded;
        let are_all = batch.delivered.len() + settled.damaged.len() == wanted;
        for (id, damage) in settled.damaged {
            let reason = format!("it was delivered but cannot be deleted: {damage}");
            self.hold_back_unprocessable(batch, id, &reason, Problem::damage);
        }
        are_all || batch.in_flight.versions().is_empty()
    }

    /// Moves rejected records to the dead letters. If that is impossible, they wait with the others.
    pub(super) fn dead_letter_rejected(&mut self, batch: &mut Settlement) {
        if batch.dead.is_empty() || self.queue_is_gone {
            return;
        }
        let Some(statements) = &self.statements else {
            // As above. They will be rejected again.
            batch.dead.clear();
            return;
        };
        process::report_activity(true, "moving rejected records to the dead letters");
        self.stats_pending = true;
        let reason = match dead_letter(statements, batch.in_flight.index_id, &batch.dead) {
            Ok(SettleOutcome::Done) => return,
            Ok(SettleOutcome::OutOfMemory | SettleOutcome::Damaged(_)) => {
                return self.dead_letter_one_by_one(batch)
            }
            Ok(SettleOutcome::Gone) => {
                self.queue_is_gone = true;
                "the queue has been dropped".to_owned()
            }
            Ok(SettleOutcome::Partly | SettleOutcome::Busy) => LOCKED.to_owned(),
            Err(error) => {
                log_problem("audit_algolia could not move rejected records to the dead letters", &error);
                error.to_string()
            }
        };
        batch.dead.clear();
        batch.backoff = Some(LaneBackoff::pause(reason));
    }

    /// Memory is lacking for moving them all at once, or one is damaged. Those that cannot be moved even alone are held
    /// back.
    fn dead_letter_one_by_one(&mut self, batch: &mut Settlement) {
        let Some(statements) = &self.statements else { return };
        let (index_id, dead) = (batch.in_flight.index_id, std::mem::take(&mut batch.dead));
        let mut held_back = Vec::new();
        for row in dead {
            match dead_letter(statements, index_id, std::slice::from_ref(&row)) {
                Ok(SettleOutcome::Done) => batch.dead.push(row),
                Ok(SettleOutcome::Gone) => self.queue_is_gone = true,
                Ok(SettleOutcome::OutOfMemory) => {
                    held_back.push((
                        row.id,
                        format!("{}, and {NO_MEMORY} to move it to the dead letters", row.reason),
                        Problem::no_memory as fn(&str) -> _,
                    ));
                }
                Ok(SettleOutcome::Damaged(damage)) => {
                    held_back.push((
                        row.id,
                        format!("{}, and it cannot be moved to the dead letters: {damage}", row.reason),
                        Problem::damage,
                    ));
                }
                Ok(SettleOutcome::Partly | SettleOutcome::Busy) | Err(_) => {
                    batch.backoff = Some(LaneBackoff::pause(LOCKED.to_owned()));
                }
            }
        }
        for (id, reason, cause) in held_back {
            self.hold_back_unprocessable(batch, id, &reason, cause);
        }
    }

    /// Holds back a record that the server cannot process. If too many records are held back already, the index waits
    /// for a moment, so that the record is not tried again and again.
    pub(super) fn hold_back_unprocessable(
        &mut self,
        batch: &mut Settlement,
        id: i64,
        reason: &str,
        cause: fn(&str) -> Problem,
    ) {
        let reason = isolated_reason(id, reason);
        log_problem("audit_algolia skips a record for now", cause(&reason));
        match self.retry_of_unprocessable(batch.in_flight.index_id, id) {
            Some(retry) => batch.unjudged_retries.push(retry),
            None => batch.backoff = Some(LaneBackoff::pause(reason.clone())),
        }
        batch.last_rejection = Some(reason);
    }

    /// A record is to be held back until memory is available or somebody has repaired it. Returns when it is tried again;
    /// `None` if too many records are held back already.
    pub(super) fn retry_of_unprocessable(&mut self, index_id: i32, id: i64) -> Option<(i64, Micros)> {
        let failures = shmem::shared_state()?.note_unprocessable(self.slot, index_id, id)?;
        Some((id, later(now(), guc::backoff().delay(failures, self.rng.f64()))))
    }
}
