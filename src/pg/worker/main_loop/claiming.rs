//! Claims batches and gives them to senders.

use std::time::Duration;

use super::backoff::later;
use super::intervals::{CLAIM_TABLE_FULL, PAUSE};
use super::problem::{log_problem, Problem};
use super::state::WorkerLoop;
use crate::delivery::http::HttpClient;
use crate::delivery::sender_pool::{SendJob, SenderPool};
use crate::pg::clock::now;
use crate::pg::worker::claim::{claim, ClaimOrder, ClaimOutcome, Claimed, FailedClaim};
use crate::pg::worker::limits::Limits;
use crate::pg::{failpoint, flight_recorder, guc, process, shmem};
use crate::shared_state::{FlightResult, LaneFailure, LatchSet, Micros, Next};

impl WorkerLoop {
    /// Claims and sends batches while there is room. Returns when to look again.
    pub(super) fn claim_all(&mut self) -> Option<Micros> {
        if self.sink.is_none() || self.other_version.is_some() || !guc::is_enabled() {
            return None;
        }
        loop {
            let next = shmem::shared_state()
                .map(|mut shared_state| shared_state.next(self.slot, guc::worker_limits(), now()));
            let next = next?;
            let Next::Claim { lane, index_id, claimable, bytes, crash_retry } = next else {
                return wait(next);
            };
            let name = self.name_of(index_id);
            let (Some(name), Some(statements), Some(sink)) = (name, &self.statements, &self.sink) else {
                // The index is not in its table, for example while a dump is being restored. Nothing can be sent and
                // nothing is lost. Whoever finds the index ends this pause.
                if let Some(mut shared_state) = shmem::shared_state() {
                    shared_state.end_claim(self.slot);
                    if let (Some(lane), false) = (shared_state.lane_at(lane), self.queue_is_gone) {
                        lane.retry_at = now().saturating_add(10 * PAUSE);
                    }
                }
                if self.queue_is_gone {
                    return None;
                }
                continue;
            };
            let sink = sink.clone();
            let limits = Limits {
                rows: crash_retry
                    .map_or(i64::MAX, |crash_retry| crash_retry.rows)
                    .min(guc::worker_limits().batch_rows),
                bytes: usize::try_from(bytes).unwrap_or(0),
                record_bytes: guc::max_record_bytes(),
            };
            let limits = self.batch_reduction.limit(index_id, limits, now());
            process::report_activity(true, "claiming rows");
            self.stats_pending = true;
            let order = ClaimOrder {
                slot: self.slot,
                lane,
                index_id,
                claimable,
                limits,
                crash_retry,
                sink: sink.clone(),
            };
            let outcome = claim(order, statements);
            // If the claim failed, the whole span waits again.
            if let Some(mut shared_state) = shmem::shared_state() {
                shared_state.end_claim(self.slot);
            }
            match outcome {
                Ok(ClaimOutcome::Nothing) => (),
                Ok(ClaimOutcome::QueueGone) => {
                    self.queue_is_gone = true;
                    return None;
                }
                Ok(ClaimOutcome::Failed(failed)) => match self.claim_failed(index_id, failed) {
                    LookAgain::AtOnce => (),
                    LookAgain::At(time) => return Some(time),
                    LookAgain::OnReturn => return None,
                },
                Ok(ClaimOutcome::TableFull) => return Some(now().saturating_add(CLAIM_TABLE_FULL)),
                Ok(ClaimOutcome::Claimed(claimed)) => {
                    claimed.flush_wal();
                    let Claimed { flight, rows, body, .. } = claimed;
                    self.in_flight.insert(flight, rows);
                    let job = SendJob { flight, index_name: name, body, sink };
                    let sent = self.send(job);
                    failpoint::reach("after sending");
                    if let Err(error) = sent {
                        self.give_up(flight, &format!("could not start a sender thread: {error}"));
                        return Some(now().saturating_add(PAUSE));
                    }
                }
                Err(error) => {
                    log_problem("audit_algolia could not claim rows", &error);
                    return Some(now().saturating_add(PAUSE));
                }
            }
        }
    }

    /// Memory was lacking for a batch, or some of its rows are damaged: the next batches, or those of this index, are
    /// smaller. A single record for which memory is lacking is held back. If damage prevented even finding rows, as a
    /// damaged page of the queue or its index does, the index backs off.
    fn claim_failed(&mut self, index_id: i32, failed: FailedClaim) -> LookAgain {
        let now = now();
        match failed.damage {
            Some(_) => self.batch_reduction.narrow(index_id, now),
            None => self.batch_reduction.save(now),
        }
        let (rows, bytes) = (failed.ids.len(), failed.bytes);
        let is_unreadable = failed.damage.is_some() && failed.flight.is_none();
        let jitter = self.rng.f64();
        let no_memory = || format!("not enough memory for a batch of {rows} rows with {bytes} bytes");
        let (reason, cause): (_, fn(&str) -> Problem) = match &failed.damage {
            Some(damage) => (damage.clone(), Problem::damage),
            None => (no_memory(), Problem::no_memory),
        };
        log_problem("audit_algolia could not claim rows", cause(&reason));
        // Batches in flight will free memory.
        let is_isolated = self.in_flight.is_empty();
        let held_back = match failed.ids[..] {
            [id] if is_isolated => self.retry_of_unprocessable(index_id, id),
            _ => None,
        };
        if let Some(mut shared_state) = shmem::shared_state() {
            let versions: Vec<(i64, i64)> = failed.objects.iter().map(|hash| (*hash, 0)).collect();
            let withheld = usize::from(held_back.is_some());
            let left: Vec<i64> = failed.ids.iter().copied().filter(|_| held_back.is_none()).collect();
            let flight_result =
                FlightResult { versions: &versions, withheld, left: &left, ..FlightResult::default() };
            let ended = failed.flight.and_then(|flight| {
                flight_recorder::leave(self.slot, flight);
                shared_state.end_flight(self.slot, flight, failed.ids.iter().copied(), flight_result, now)
            });
            if let Some((id, due)) = held_back {
                shared_state.hold_back(self.database, index_id, id, due);
            }
            let lane = match ended {
                None if is_unreadable => shared_state.find_lane(self.database, index_id),
                ended => ended.map(|ended| ended.lane),
            };
            match lane.and_then(|lane| shared_state.lane_at(lane)) {
                Some(lane) if is_unreadable => {
                    let pause =
                        guc::backoff().delay(lane.failures, jitter).max(Duration::from_micros(PAUSE as u64));
                    lane.back_off(LaneFailure::Retry, 0, &reason, (now, later(now, pause)), now);
                }
                Some(lane) => lane.note_failed(withheld as i64, &reason, now),
                None => (),
            }
            if let Some(me) = shared_state.workers.get_mut(self.slot) {
                me.errors_total += 1;
                me.last_error.set(&reason);
            }
        }
        match (is_isolated, rows) {
            _ if is_unreadable => LookAgain::AtOnce,
            (false, _) => LookAgain::OnReturn,
            (true, 0 | 1) if held_back.is_none() => LookAgain::At(now.saturating_add(PAUSE)),
            (true, _) => LookAgain::AtOnce,
        }
    }

    pub(super) fn send(&mut self, job: SendJob<HttpClient>) -> std::io::Result<()> {
        failpoint::carry("sending", job.body.body());
        if self.sender_pool.is_none() {
            self.sender_pool = Some(SenderPool::new()?);
        }
        match &mut self.sender_pool {
            Some(sender_pool) => sender_pool.send(job),
            None => Err(std::io::ErrorKind::NotFound.into()),
        }
    }
}

/// When a worker whose claim has failed looks for work again.
enum LookAgain {
    AtOnce,
    At(Micros),
    /// When the next batch returns.
    OnReturn,
}

/// Nothing can be claimed: wakes a worker that can claim something. Returns when to look again.
fn wait(next: Next) -> Option<Micros> {
    let Next::Wait { until, wake } = next else { return None };
    shmem::wake(LatchSet::of(wake.unwrap_or_default()));
    until
}
