//! What becomes of a batch when its answer is there: deleted, or given back with a reason.

use std::sync::Arc;
use std::time::Duration;

use pgrx::prelude::*;

use super::{complain, now, Cargo, Flow};
use crate::delivery::couriers::{Couriers, Return};
use crate::delivery::outcome::Outcome;
use crate::ledger::Setback;
use crate::pg::process;
use crate::pg::worker::claim::settle;
use crate::pg::{guc, shmem};

impl Flow {
    pub(super) fn settle_returns(&mut self) {
        let returns = self.couriers.as_mut().map(Couriers::collect).unwrap_or_default();
        if returns.is_empty() {
            return;
        }
        let mut delivered = Vec::new();
        for Return { flight, report } in returns {
            let Some(cargo) = self.cargo.remove(&flight) else {
                continue;
            };
            let arrived = matches!(report.outcome, Outcome::Delivered { .. });
            self.note_batch(&report.host, cargo.ids.len(), arrived);
            let outdated = !self.sink.as_ref().is_some_and(|sink| Arc::ptr_eq(sink, &cargo.sink));
            if outdated && !arrived {
                if let Some(mut ledger) = shmem::ledger() {
                    ledger.released(self.slot, flight, &cargo.ids);
                }
                continue;
            }
            match report.outcome {
                Outcome::Delivered { .. } => delivered.push((flight, cargo)),
                Outcome::Retry { reason, not_before } => {
                    self.set_back(flight, &cargo, Setback::Retry, &reason, not_before.unwrap_or_default());
                }
                Outcome::Rejected { reason, .. } => {
                    self.set_back(flight, &cargo, Setback::Retry, &reason, Duration::ZERO);
                }
                Outcome::Blocked { reason, hint, .. } => {
                    let reason = format!("{reason}; {hint}");
                    self.set_back(flight, &cargo, Setback::Blocked, &reason, guc::backoff().max);
                }
            }
        }
        self.settle(delivered);
    }

    /// Deletes what has arrived. A failure here ends the process; the rows are then sent again.
    fn settle(&mut self, delivered: Vec<(usize, Cargo)>) {
        let (Some(statements), false) = (&self.statements, delivered.is_empty()) else {
            return;
        };
        process::report_activity(true, "deleting delivered rows");
        self.untold = true;
        let mut places = Vec::new();
        let mut rows = Vec::new();
        for (flight, cargo) in delivered {
            places.push(flight);
            rows.push((cargo.index_id, cargo.ids));
        }
        let outcome = settle(statements, &rows);
        self.gone |= matches!(outcome, Ok(false));
        if let Err(error) = &outcome {
            complain(
                "audit_algolia could not delete delivered rows and sends them again",
                &error.to_string(),
            );
        }
        let now = now();
        for (flight, (index_id, ids)) in places.into_iter().zip(rows) {
            if let Some(mut ledger) = shmem::ledger() {
                match outcome {
                    Ok(true) => ledger.settled(self.slot, flight, &ids, now),
                    Ok(false) | Err(_) => ledger.released(self.slot, flight, &ids),
                }
            }
            let is_news = shmem::ledger().is_some_and(|mut ledger| {
                let lane = ledger.find_lane(self.database, index_id).and_then(|lane| ledger.lane_at(lane));
                lane.is_some_and(|lane| lane.tell_recovery(now))
            });
            if let (true, Some(index)) = (is_news, self.indices.get(&index_id)) {
                log!("audit_algolia delivers to index \"{}\" again", index.name);
            }
        }
    }

    fn set_back(&mut self, flight: usize, cargo: &Cargo, setback: Setback, reason: &str, at_least: Duration) {
        let now = now();
        let dice = self.dice.f64();
        let mut is_news = false;
        if let Some(mut ledger) = shmem::ledger() {
            ledger.released(self.slot, flight, &cargo.ids);
            if let Some(lane) = ledger.lane_at(cargo.lane) {
                // What was under way together with an attempt that has failed already has no say in the pause.
                let backoff = if lane.knew_of(cargo.started_at) {
                    Duration::ZERO
                } else {
                    guc::backoff().delay(lane.failures, dice)
                };
                let delay = backoff.max(at_least);
                let retry_at = now.saturating_add(i64::try_from(delay.as_micros()).unwrap_or(i64::MAX));
                let times = (cargo.started_at, retry_at);
                lane.set_back(setback, cargo.ids.len() as i64, reason, times, now);
                is_news = lane.tell_trouble(setback, now);
            }
            if let Some(me) = ledger.workers.get_mut(self.slot) {
                me.last_error.set(reason);
            }
        }
        if let (true, Some(index)) = (is_news, self.indices.get(&cargo.index_id)) {
            log!("audit_algolia cannot deliver to index \"{}\" and tries again: {reason}", index.name);
        }
    }

    fn note_batch(&self, host: &str, rows: usize, arrived: bool) {
        if let Some(mut ledger) = shmem::ledger() {
            if let Some(me) = ledger.workers.get_mut(self.slot) {
                me.host.set(host);
                me.batches_total += 1;
                if arrived {
                    me.rows_total += rows as i64;
                } else {
                    me.errors_total += 1;
                }
            }
        }
    }

    pub(super) fn give_up(&mut self, flight: usize, reason: &str) {
        if let Some(cargo) = self.cargo.remove(&flight) {
            self.set_back(flight, &cargo, Setback::Retry, reason, Duration::from_secs(1));
        }
    }
}
