//! Batches that are not full. Like Nagle's algorithm: a partial batch is sent at once if no worker has another partial
//! batch of the index in flight. Otherwise its rows wait until that one returns or there are enough for a full batch.
//!
//! So a row of an idle index is sent without delay, and a steady trickle of rows makes one request per round trip. A slow
//! answer delays nobody: after the usual length of a round trip the next batch is sent nevertheless. Batches of the
//! backlog and rows held back neither wait nor are waited for. While there is a backlog, fresh rows do not wait either:
//! the newest rows of the backlog fill their batch.
#![forbid(unsafe_code)]

use super::{Flight, Lane, Micros, SharedState, WorkerLimits};
use crate::id_ranges::{IdRanges, Span};

/// Most answers come within this time. Fresh rows do not wait longer for a batch to return.
pub(super) const ROUND_TRIP: Micros = 200_000;

impl Lane {
    /// When the waiting fresh rows may be claimed.
    pub(super) fn fresh_due(&self, worker_limits: &WorkerLimits) -> Micros {
        if !self.is_partial(worker_limits) {
            Micros::MIN
        } else if worker_limits.linger > 0 {
            self.fresh_since.saturating_add(worker_limits.linger)
        } else if self.partial_since != 0 {
            self.partial_since.saturating_add(ROUND_TRIP)
        } else {
            Micros::MIN
        }
    }

    /// How many rows fill a batch if they are as large as those of the latest one.
    fn rows_of_full_batch(&self, worker_limits: &WorkerLimits) -> i64 {
        worker_limits.batch_rows.min((worker_limits.batch_bytes / self.row_bytes.max(1)).max(1))
    }

    /// Whether the fresh rows may not fill a batch, even with those of the backlog.
    pub(super) fn is_partial(&self, worker_limits: &WorkerLimits) -> bool {
        !self.has_rows_to_fill_with() && self.fresh_rows < self.rows_of_full_batch(worker_limits)
    }

    /// Whether rows of the backlog fill the batches of fresh rows. Not while batches fail or are rejected as a whole: that
    /// may be because of rows of the backlog, and what is fresh shows whether the index accepts anything.
    pub(super) fn has_rows_to_fill_with(&self) -> bool {
        !self.backlog.is_empty() && !self.is_in_trouble() && !self.unattributed_rejections.are_waiting()
    }

    /// Takes the newest span of the backlog to fill a batch, if it is below the batch's other rows.
    fn take_to_fill_below(&mut self, id: i64) -> Option<Span> {
        let newest = self.backlog.newest().filter(|span| self.has_rows_to_fill_with() && span.lo < id)?;
        let below = Span { hi: newest.hi.min(id.saturating_sub(1)), ..newest };
        self.backlog.remove(below);
        Some(below)
    }

    /// Fresh rows that may not fill a batch are about to be claimed. Further fresh rows wait for that batch.
    pub(super) fn partial_taken(&mut self, worker_limits: &WorkerLimits, now: Micros) {
        self.partial_since = now;
        self.full_batch_rows = match worker_limits.linger {
            0 => self.rows_of_full_batch(worker_limits),
            _ => 0,
        };
    }

    /// A batch was sent.
    pub(super) fn flight_started(&mut self, flight: &Flight, waits_for_it: bool) {
        self.row_bytes = flight.bytes / flight.rows.max(1);
        if flight.partial && waits_for_it {
            self.partial_since = flight.started_at;
        }
    }

    /// A batch has returned, or nobody is to wait for it. Rows wait for the youngest partial batch only, because the
    /// others have already taken too long.
    pub(super) fn stop_waiting_for(&mut self, flight: &Flight) {
        if flight.partial && flight.started_at == self.partial_since {
            self.partial_since = 0;
        }
    }

    /// Until when newly published fresh rows wait.
    pub(super) fn waits_until(&self, now: Micros) -> Option<Micros> {
        let until = self.partial_since.saturating_add(ROUND_TRIP);
        let waits = self.partial_since != 0
            && self.fresh_rows < self.full_batch_rows
            && !self.has_rows_to_fill_with();
        (waits && now < until).then_some(until)
    }

    /// Whether rows that were just published wait for a batch to return, so that nobody needs to be woken. The worker
    /// that has the batch continues with them.
    pub fn waits_for_return(&self, spans: &IdRanges, now: Micros) -> bool {
        spans.iter().all(|span| span.hi >= 0) && self.waits_until(now).is_some()
    }
}

impl SharedState {
    /// The claimed fresh rows do not fill the batch: returns another span of fresh rows, or else of the backlog.
    /// Otherwise one span would have to wait for the other's batch.
    pub fn next_to_fill(&mut self, worker: usize) -> Option<Span> {
        let me = self.workers.get_mut(worker).filter(|me| me.fills_batch)?;
        let lane = self.lanes.get_mut((me.scanning_lane as usize).checked_sub(1)?)?;
        let span = match lane.fresh.take_newest() {
            Some(span) => span,
            None => lane.take_to_fill_below(me.scanning.lo)?,
        };
        if lane.fresh.is_empty() {
            lane.fresh_rows = 0;
        }
        me.scanning = me.scanning.joined(span);
        Some(span)
    }

    /// The claim that fresh rows were to wait for has ended without a batch to wait for.
    pub(super) fn end_partial_claim(&mut self, worker: usize) {
        let Some(me) = self.workers.get_mut(worker) else { return };
        let lane = (std::mem::take(&mut me.scanning_partial) as usize).checked_sub(1);
        if let Some(lane) = lane.and_then(|lane| self.lanes.get_mut(lane)) {
            lane.partial_since = 0;
        }
    }

    /// Nobody waits for the batches of a worker any more, because it will not continue with further rows.
    pub(super) fn wait_for_no_batch_of(&mut self, worker: usize) {
        self.end_partial_claim(worker);
        let Some(me) = self.workers.get(worker) else { return };
        for flight in me.flights.iter().filter(|flight| flight.rows > 0) {
            if let Some(lane) = self.lanes.get_mut(flight.lane as usize) {
                lane.stop_waiting_for(flight);
            }
        }
    }
}
