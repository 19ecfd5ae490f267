//! Collects results from senders, has their batches settled, and gives their claims back.

use std::time::Duration;

use pgrx::prelude::*;

use super::state::{Index, WorkerLoop};
use crate::delivery::outcome::TransitFailure;
use crate::delivery::sender_pool::SenderPool;
use crate::pg::clock::now;
use crate::pg::worker::settlement::{LaneBackoff, Settlement};
use crate::pg::{flight_recorder, guc, shmem};
use crate::shared_state::{FlightResult, RetryDelay};

impl WorkerLoop {
    pub(super) fn settle_results(&mut self) {
        let results = self.sender_pool.as_mut().map(SenderPool::collect).unwrap_or_default();
        let mut settlements = Vec::with_capacity(results.len());
        for (flight, result) in results {
            match self.in_flight.remove(&flight) {
                Some(in_flight) => settlements.push(self.settlement_of(flight, in_flight, result)),
                None => self.settle_settings(flight, result),
            }
        }
        if settlements.is_empty() {
            return;
        }
        self.note_tasks(&settlements);
        self.delete_delivered(&mut settlements);
        for batch in &mut settlements {
            self.dead_letter_rejected(batch);
        }
        for batch in settlements {
            self.give_back(batch);
        }
    }

    /// Records the indexing tasks after which the delivered rows are in the index.
    fn note_tasks(&self, settlements: &[Settlement]) {
        if let Some(mut shared_state) = shmem::shared_state() {
            for batch in settlements {
                if let Some(task) = batch.task {
                    shared_state.note_task(self.slot, batch.flight, task, batch.in_flight.sink.destination());
                }
            }
        }
    }

    /// Ends the claims of a batch. Rows that were neither delivered nor rejected wait again.
    fn give_back(&mut self, batch: Settlement) {
        let now = now();
        let (slot, index_id) = (self.slot, batch.in_flight.index_id);
        let versions = batch.in_flight.versions();
        let left = match batch.transit_failure != TransitFailure::None || batch.in_flight.held_back {
            true => batch.left(),
            false => Vec::new(),
        };
        let at_least = batch.backoff.as_ref().map_or(Duration::ZERO, |failure| failure.at_least);
        let retry = RetryDelay { backoff: guc::backoff(), jitter: self.rng.f64(), at_least };
        let flight_result = FlightResult {
            judged: batch.is_judged(),
            delivered: &batch.delivered,
            superseded: batch.superseded,
            withheld: batch.withheld(),
            versions: &versions,
            held_until: batch.held_until,
            left: &left,
            failure: (batch.transit_failure != TransitFailure::None).then_some(retry),
        };
        let (mut recovered, mut deaths, mut ended) = (false, None, None);
        flight_recorder::leave(slot, batch.flight);
        if let Some(mut shared_state) = shmem::shared_state() {
            ended = shared_state.end_flight(slot, batch.flight, batch.in_flight.rows(), flight_result, now);
            for (id, due) in batch.retries() {
                shared_state.hold_back(self.database, index_id, *id, *due);
            }
            if let Some(lane) = ended.and_then(|ended| shared_state.lane_at(ended.lane)) {
                if let Some(rejection) = &batch.last_rejection {
                    lane.note_failed(batch.withheld() as i64, rejection, now);
                }
                recovered = !batch.delivered.is_empty() && lane.should_log_recovery(now);
                deaths = lane.dead_to_log(batch.dead.len() as i64, now);
            }
        }
        if let Some(Index { name }) = self.indices.get(&index_id) {
            if recovered {
                log!("audit_algolia delivers to index \"{name}\" again");
            }
            if let (Some(dead), Some(rejection)) = (deaths, &batch.last_rejection) {
                log!("audit_algolia has given up {dead} records for index \"{name}\", see audit_algolia.dead_letters: {rejection}");
            }
        }
        let Some(failure) = &batch.backoff else { return };
        if batch.transit_failure != TransitFailure::None && batch.in_flight.held_back {
            self.note_held_back_failure(&batch.in_flight, ended, left.len(), failure, now);
        } else {
            let rows =
                batch.in_flight.rows().count().saturating_sub(batch.delivered.len() + batch.withheld());
            self.back_off(&batch.in_flight, ended, rows, failure, now);
        }
    }

    /// A batch could not be sent at all.
    pub(super) fn give_up(&mut self, flight: usize, reason: &str) {
        if let Some(in_flight) = self.in_flight.remove(&flight) {
            flight_recorder::leave(self.slot, flight);
            let ended = shmem::shared_state().and_then(|mut shared_state| {
                let (versions, left): (_, Vec<i64>) = (in_flight.versions(), in_flight.rows().collect());
                let flight_result =
                    FlightResult { versions: &versions, left: &left, ..FlightResult::default() };
                shared_state.end_flight(self.slot, flight, in_flight.rows(), flight_result, 0)
            });
            let rows = in_flight.rows().count();
            self.back_off(&in_flight, ended, rows, &LaneBackoff::pause(reason.to_owned()), now());
        }
    }
}
