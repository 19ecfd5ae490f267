//! What becomes of a batch when its answer is there: deleted, buried, or given back with a reason.

use std::sync::Arc;
use std::time::Duration;

use pgrx::prelude::*;

use super::failures::{by_itself, later};
use super::landed::{GiveBackReason, Landed};
use super::{complain, Flow, InFlightBatch, Index, PAUSE};
use crate::delivery::classify::{shorten, ASK_THE_GATEWAY};
use crate::delivery::outcome::{Outcome, Refusal, Report, Suspicion};
use crate::delivery::sender_pool::{Return, SenderPool};
use crate::pg::clock::now;
use crate::pg::process;
use crate::pg::worker::claim::Why;
use crate::pg::worker::settle::{bury, settle, Dead, Delivered, Settled};
use crate::pg::{guc, recorder, shmem};
use crate::shared_state::{Failure, Landing, LaneFailure, Micros, RejectAction};

/// What keeps delivered or refused records where they are.
const LOCKED: &str = "rows of the queue or dead letters are locked by somebody else";
/// What keeps them from being deleted or buried.
const SHORT: &str = "there is not enough memory";
/// Most characters of what was answered where a hint is to follow.
const MOST_OF_A_REASON: usize = 220;

impl Flow {
    pub(super) fn settle_returns(&mut self) {
        let returns = self.sender_pool.as_mut().map(SenderPool::collect).unwrap_or_default();
        let mut landed = Vec::with_capacity(returns.len());
        for Return { flight, report } in returns {
            match self.in_flight.remove(&flight) {
                Some(in_flight) => landed.push(self.sort_out(flight, in_flight, report)),
                None => self.settle_settings(flight, report),
            }
        }
        if landed.is_empty() {
            return;
        }
        self.note_tasks(&landed);
        self.delete_delivered(&mut landed);
        for batch in &mut landed {
            self.bury_refused(batch);
        }
        for batch in landed {
            self.give_back(batch);
        }
    }

    /// Tells by what it can be seen that the index has what was delivered.
    fn note_tasks(&self, landed: &[Landed]) {
        if let Some(mut shared_state) = shmem::shared_state() {
            for batch in landed {
                if let Some(task) = batch.task {
                    shared_state.note_task(self.slot, batch.flight, task, batch.in_flight.sink.destination());
                }
            }
        }
    }

    /// Finds out what the rows of a batch came to.
    fn sort_out(&mut self, flight: usize, in_flight: InFlightBatch, report: Report) -> Landed {
        let Report {
            outcome,
            delivered,
            last_task,
            refused,
            suspicion,
            host,
            may_come_late,
            short_of_memory,
            ..
        } = report;
        if short_of_memory {
            self.batch_reduction.save(now());
        }
        let has_versions = in_flight.objects.iter().any(Option::is_some);
        let held_until = (may_come_late && has_versions).then(|| now().saturating_add(guc::quarantine()));
        let arrived = matches!(outcome, Outcome::Delivered { .. });
        let whole = arrived && refused.is_empty();
        let parts = if arrived && !whole {
            let is_refused = |place: &usize| refused.iter().any(|refusal| refusal.row == *place);
            let rows = in_flight.ids.iter().enumerate().filter(|(place, _)| !is_refused(place));
            rows.map(|(_, id)| *id).collect()
        } else {
            delivered.iter().filter_map(|place| in_flight.ids.get(*place).copied()).collect()
        };
        let mut landed = Landed {
            flight,
            in_flight,
            whole,
            parts,
            dead: Vec::new(),
            waiting: Vec::new(),
            short: Vec::new(),
            complaint: None,
            setback: None,
            suspicion: Suspicion::None,
            alone: false,
            task: match outcome {
                Outcome::Delivered { task_id } => task_id.max(last_task),
                _ => last_task,
            },
            superseded: 0,
            held_until,
        };
        landed.doubt_versions();
        self.note_batch(&host, landed.delivered().len(), whole);
        // What an old sink has delivered is delivered; its complaints mean nothing for the new one.
        let outdated = !self.sink.as_ref().is_some_and(|sink| Arc::ptr_eq(sink, &landed.in_flight.sink));
        self.judge(&mut landed, if outdated { Vec::new() } else { refused });
        let setback = match outcome {
            _ if outdated => None,
            Outcome::Delivered { .. } | Outcome::Rejected { .. } => None,
            Outcome::Retry { reason, not_before } => {
                let reason = match suspicion {
                    Suspicion::Refused(_) => {
                        format!("{}; {ASK_THE_GATEWAY}", shorten(&reason, MOST_OF_A_REASON))
                    }
                    _ => reason,
                };
                let at_least = not_before.unwrap_or_default();
                landed.suspicion = suspicion;
                self.judge_alone(&mut landed, &reason, at_least);
                (!landed.alone).then_some(GiveBackReason { kind: LaneFailure::Retry, reason, at_least })
            }
            Outcome::Blocked { reason, hint, .. } => Some(GiveBackReason {
                kind: LaneFailure::Blocked,
                reason: format!("{reason}; {hint}"),
                at_least: guc::backoff().max,
            }),
        };
        landed.setback = setback.or(landed.setback);
        landed
    }

    /// Decides which of the refused rows die, and when the others are tried again.
    fn judge(&mut self, landed: &mut Landed, refused: Vec<Refusal>) {
        let limit = guc::max_record_bytes();
        let mut damaged = Vec::new();
        for row in &landed.in_flight.unsent {
            let (attempts, reason) = match &row.why {
                Why::Damaged(damage) => {
                    damaged.push((row.id, format!("its record cannot be read: {damage}")));
                    continue;
                }
                Why::TooLarge(bytes) => (
                    0,
                    format!(
                        "record has {bytes} bytes, more than audit_algolia.max_record_bytes = {limit} allows"
                    ),
                ),
                Why::Crashes(crashes) => (
                    i32::try_from(*crashes).unwrap_or(i32::MAX),
                    format!("a worker has crashed {crashes} times while it delivered this record alone"),
                ),
            };
            landed.complaint = Some(reason.clone());
            let (id, object_id, object) = (row.id, row.object_id.clone(), row.object.clone());
            landed.dead.push(Dead { id, object_id, object, attempts, status: None, reason });
        }
        for (id, reason) in damaged {
            self.set_apart(landed, id, &reason);
        }
        if refused.is_empty() {
            return;
        }
        let (now, backoff, rows) = (now(), guc::backoff(), landed.in_flight.ids.len());
        let Some(mut shared_state) = shmem::shared_state() else { return };
        for Refusal { row, object_id, status, reason, proven } in refused {
            let Some(id) = landed.in_flight.ids.get(row).copied() else { continue };
            let object = landed.in_flight.objects.get(row).cloned().flatten();
            landed.complaint = Some(reason.clone());
            match shared_state.judge(self.slot, landed.in_flight.index_id, id, guc::max_attempts()) {
                RejectAction::Dies(_)
                    if !proven && !shared_state.may_dead_letter(self.slot, landed.flight, rows, now) =>
                {
                    let reason = format!("{reason} (names no record, and none of {rows} is taken)");
                    let at_least = Duration::ZERO;
                    landed.setback =
                        Some(GiveBackReason { kind: LaneFailure::UnattributedRejections, reason, at_least });
                }
                RejectAction::Dies(attempts) => {
                    let status = Some(status);
                    landed.dead.push(Dead { id, object_id, object, attempts, status, reason });
                }
                RejectAction::Waits(attempts) => {
                    let failures = u32::try_from(attempts - 1).unwrap_or(0);
                    landed.waiting.push((id, later(now, backoff.delay(failures, self.rng.f64()))));
                }
            }
        }
    }

    /// Deletes what has arrived. An error of the server ends the process; the rows are then sent again.
    fn delete_delivered(&mut self, landed: &mut [Landed]) {
        let Some(statements) = &self.statements else { return };
        if landed.iter().all(|batch| batch.delivered().is_empty()) {
            return;
        }
        process::report_activity(true, "deleting delivered rows");
        self.stats_pending = true;
        let mut delivered: Vec<Delivered> = {
            let shared_state = shmem::shared_state();
            let may_have_dead = |batch: &Landed| {
                let lane = shared_state.as_ref().and_then(|shared_state| {
                    shared_state.lane(shared_state.lane_of_flight(self.slot, batch.flight)?)
                });
                lane.is_none_or(|lane| lane.dead != 0 || !lane.counted)
            };
            landed.iter().map(|batch| batch.to_settle(may_have_dead(batch))).collect()
        };
        let outcome = settle(statements, &mut delivered);
        if let Err(error) = &outcome {
            complain(
                "audit_algolia could not delete delivered rows and sends them again",
                &error.to_string(),
            );
        }
        self.gone |= matches!(outcome, Ok(Settled::Gone));
        for (batch, settled) in landed.iter_mut().zip(delivered) {
            let reason = match &outcome {
                Ok(Settled::Done) => {
                    batch.superseded = settled.superseded;
                    continue;
                }
                Ok(Settled::Partly) if settled.ids.len() == batch.delivered().len() => continue,
                Ok(Settled::Partly | Settled::Busy) => LOCKED.to_owned(),
                Ok(Settled::Short) => SHORT.to_owned(),
                Ok(Settled::Damaged(damage)) => damage.clone(),
                Ok(Settled::Gone) => String::new(),
                Err(error) => error.to_string(),
            };
            batch.whole = false;
            batch.parts = if matches!(outcome, Ok(Settled::Partly)) { settled.ids } else { Vec::new() };
            // Rows that stand by themselves are passed over for as long as they are locked. Everything else would be sent
            // again and again.
            let is_passed_over =
                matches!(outcome, Ok(Settled::Partly)) && batch.in_flight.versions().is_empty();
            if !is_passed_over && !self.gone {
                let at_least = Duration::from_micros(PAUSE as u64);
                batch.setback = Some(GiveBackReason { kind: LaneFailure::Retry, reason, at_least });
            }
        }
    }

    /// Moves the dead to the dead letters. Where that is not possible they wait with the others.
    fn bury_refused(&mut self, batch: &mut Landed) {
        let (Some(statements), false) = (&self.statements, batch.dead.is_empty() || self.gone) else {
            return;
        };
        process::report_activity(true, "burying refused records");
        self.stats_pending = true;
        let reason = match bury(statements, batch.in_flight.index_id, &batch.dead) {
            Ok(Settled::Done) => return,
            Ok(Settled::Short | Settled::Damaged(_)) => return self.bury_one_by_one(batch),
            Ok(Settled::Gone) => {
                self.gone = true;
                "the queue is no more".to_owned()
            }
            Ok(Settled::Partly | Settled::Busy) => LOCKED.to_owned(),
            Err(error) => {
                complain("audit_algolia could not bury refused records", &error.to_string());
                error.to_string()
            }
        };
        batch.dead.clear();
        batch.setback = Some(GiveBackReason {
            kind: LaneFailure::Retry,
            reason,
            at_least: Duration::from_micros(PAUSE as u64),
        });
    }

    /// There is no memory to bury them all at once, or one is damaged. Those that cannot be buried even by themselves wait by
    /// themselves.
    fn bury_one_by_one(&mut self, batch: &mut Landed) {
        let Some(statements) = &self.statements else { return };
        let (index_id, dead) = (batch.in_flight.index_id, std::mem::take(&mut batch.dead));
        let mut short = Vec::new();
        for row in dead {
            match bury(statements, index_id, std::slice::from_ref(&row)) {
                Ok(Settled::Done) => batch.dead.push(row),
                Ok(Settled::Gone) => self.gone = true,
                Ok(Settled::Short) => short.push((row.id, format!("{}, and {SHORT} to bury it", row.reason))),
                Ok(Settled::Damaged(damage)) => {
                    short.push((row.id, format!("{}, and it cannot be buried: {damage}", row.reason)));
                }
                Ok(Settled::Partly | Settled::Busy) | Err(_) => {
                    let (kind, reason) = (LaneFailure::Retry, LOCKED.to_owned());
                    let at_least = Duration::from_micros(PAUSE as u64);
                    batch.setback = Some(GiveBackReason { kind, reason, at_least });
                }
            }
        }
        for (id, reason) in short {
            self.set_apart(batch, id, &reason);
        }
    }

    /// A record that the server is not able to handle waits by itself. If more of them do than can, its index waits for a
    /// moment, lest it be tried again and again.
    fn set_apart(&mut self, batch: &mut Landed, id: i64, reason: &str) {
        let reason = by_itself(id, reason);
        complain("audit_algolia goes on without a record", &reason);
        match self.wait_alone(batch.in_flight.index_id, id) {
            Some(waits) => batch.short.push(waits),
            None => {
                let (kind, reason) = (LaneFailure::Retry, reason.clone());
                let at_least = Duration::from_micros(PAUSE as u64);
                batch.setback = Some(GiveBackReason { kind, reason, at_least });
            }
        }
        batch.complaint = Some(reason);
    }

    /// A record is to wait by itself, for memory or for whoever mends it: until when, if that many can.
    pub(super) fn wait_alone(&mut self, index_id: i32, id: i64) -> Option<(i64, Micros)> {
        let sentence = shmem::shared_state()?.judge(self.slot, index_id, id, i32::MAX);
        let RejectAction::Waits(attempts) = sentence else { return None };
        let failures = u32::try_from(attempts - 1).unwrap_or(0);
        Some((id, later(now(), guc::backoff().delay(failures, self.rng.f64()))))
    }

    /// Gives up the claims of a batch; what has not been dealt with waits again.
    fn give_back(&mut self, batch: Landed) {
        let now = now();
        let (slot, index_id) = (self.slot, batch.in_flight.index_id);
        let versions = batch.in_flight.versions();
        let left = match batch.suspicion != Suspicion::None || batch.in_flight.apart {
            true => batch.left(),
            false => Vec::new(),
        };
        let at_least = batch.setback.as_ref().map_or(Duration::ZERO, |setback| setback.at_least);
        let failure = Failure { backoff: guc::backoff(), rng: self.rng.f64(), at_least };
        let landing = Landing {
            judged: batch.is_judged(),
            delivered: batch.delivered(),
            superseded: batch.superseded,
            kept: batch.refused(),
            versions: &versions,
            held_until: batch.held_until,
            left: &left,
            failure: (batch.suspicion != Suspicion::None).then_some(failure),
        };
        let (mut recovered, mut deaths, mut places) = (false, None, None);
        recorder::leave(slot, batch.flight);
        if let Some(mut shared_state) = shmem::shared_state() {
            places = shared_state.landed(slot, batch.flight, batch.in_flight.rows(), landing, now);
            for (id, due) in batch.waiting.iter().chain(&batch.short) {
                shared_state.hold_back(self.database, index_id, *id, *due);
            }
            if let Some(lane) = places.and_then(|places| shared_state.lane_at(places.lane)) {
                if let Some(complaint) = &batch.complaint {
                    lane.refused(batch.refused() as i64, complaint, now);
                }
                recovered = !batch.delivered().is_empty() && lane.should_log_recovery(now);
                deaths = lane.dead_to_log(batch.dead.len() as i64, now);
            }
        }
        if let Some(Index { name }) = self.indices.get(&index_id) {
            if recovered {
                log!("audit_algolia delivers to index \"{name}\" again");
            }
            if let (Some(dead), Some(complaint)) = (deaths, &batch.complaint) {
                log!("audit_algolia has given up {dead} records for index \"{name}\", see audit_algolia.dead_letters: {complaint}");
            }
        }
        let Some(setback) = &batch.setback else { return };
        if batch.suspicion != Suspicion::None && batch.in_flight.apart {
            self.note_apart(&batch.in_flight, places, left.len(), setback, now);
        } else {
            let rows =
                batch.in_flight.rows().count().saturating_sub(batch.delivered().len() + batch.refused());
            self.set_back(&batch.in_flight, places, rows, setback, now);
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

    /// A batch was not sent at all.
    pub(super) fn give_up(&mut self, flight: usize, reason: &str) {
        if let Some(in_flight) = self.in_flight.remove(&flight) {
            recorder::leave(self.slot, flight);
            let (kind, reason, at_least) = (LaneFailure::Retry, reason.to_owned(), Duration::from_secs(1));
            let places = shmem::shared_state().and_then(|mut shared_state| {
                let (versions, left): (_, Vec<i64>) = (in_flight.versions(), in_flight.rows().collect());
                let landing = Landing { versions: &versions, left: &left, ..Landing::default() };
                shared_state.landed(self.slot, flight, in_flight.rows(), landing, 0)
            });
            let rows = in_flight.rows().count();
            self.set_back(&in_flight, places, rows, &GiveBackReason { kind, reason, at_least }, now());
        }
    }
}
