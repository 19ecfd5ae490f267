//! Batches that are not full. As Nagle's algorithm has it for packets, one of an index goes at once while no other is on its
//! way, with whichever worker; else its rows wait for that one's return, or until there are enough for a full one.
//!
//! So an idle index is as fresh as can be, and a steady trickle makes one request per round trip. An answer that takes long
//! keeps nobody waiting: after a usual round trip the next batch goes all the same. Batches of the backlog and rows held back
//! neither wait nor are waited for.
#![forbid(unsafe_code)]

use super::{Flight, Lane, Micros, SharedState, WorkerLimits};
use crate::id_ranges::{IdRanges, Span};

/// As long as an answer takes at most, usually. Fresh rows wait no longer for the return of a batch.
pub(super) const ROUND_TRIP: Micros = 200_000;

impl Lane {
    /// When the fresh rows that wait may be claimed.
    pub(super) fn fresh_due(&self, worker_limits: &WorkerLimits) -> Micros {
        if self.fresh_rows >= self.rows_of_full_batch(worker_limits) {
            Micros::MIN
        } else if worker_limits.linger > 0 {
            self.fresh_since.saturating_add(worker_limits.linger)
        } else if self.partial_since != 0 {
            self.partial_since.saturating_add(ROUND_TRIP)
        } else {
            Micros::MIN
        }
    }

    /// How many rows fill a batch, if they are as large as those of the latest one.
    fn rows_of_full_batch(&self, worker_limits: &WorkerLimits) -> i64 {
        worker_limits.batch_rows.min((worker_limits.batch_bytes / self.row_bytes.max(1)).max(1))
    }

    /// Whether fresh rows that are about to be taken may leave room in their batch.
    pub(super) fn is_partial(&self, worker_limits: &WorkerLimits) -> bool {
        self.fresh_rows < self.rows_of_full_batch(worker_limits)
    }

    /// Fresh rows that may leave room in their batch are about to be claimed: others wait for it from now on.
    pub(super) fn partial_taken(&mut self, worker_limits: &WorkerLimits, now: Micros) {
        self.partial_since = now;
        self.full_at = match worker_limits.linger {
            0 => self.rows_of_full_batch(worker_limits),
            _ => 0,
        };
    }

    /// A batch is on its way.
    pub(super) fn taken_off(&mut self, flight: &Flight, waits_for_it: bool) {
        self.row_bytes = flight.bytes / flight.rows.max(1);
        if flight.partial && waits_for_it {
            self.partial_since = flight.started_at;
        }
    }

    /// A batch is on its way no more, or nobody is to wait for it. It is the youngest of the partial ones that is waited
    /// for: the others have taken too long already.
    pub(super) fn partial_landed(&mut self, flight: &Flight) {
        if flight.partial && flight.started_at == self.partial_since {
            self.partial_since = 0;
        }
    }

    /// Until when fresh rows that come now wait, as far as those know who publish them.
    pub(super) fn waits_until(&self, now: Micros) -> Option<Micros> {
        let until = self.partial_since.saturating_add(ROUND_TRIP);
        (self.partial_since != 0 && self.fresh_rows < self.full_at && now < until).then_some(until)
    }

    /// Whether rows that have just been published within `spans` wait for the return of a batch, so that nobody needs to
    /// be woken for them: whoever has the batch goes on with them.
    pub fn waits_for_return(&self, spans: &IdRanges, now: Micros) -> bool {
        spans.iter().all(|span| span.hi >= 0) && self.waits_until(now).is_some()
    }
}

impl SharedState {
    /// All fresh rows have been read that were handed out, and the batch has room for more: another span of them. Rows far
    /// apart travel together, or one span would have to wait for the return of the other.
    pub fn next_fresh(&mut self, worker: usize) -> Option<Span> {
        let me = self.workers.get_mut(worker)?;
        let lane = self.lanes.get_mut((me.scanning_partial as usize).checked_sub(1)?)?;
        let span = lane.fresh.take_newest()?;
        if lane.fresh.is_empty() {
            lane.fresh_rows = 0;
        }
        me.scanning = me.scanning.joined(span);
        Some(span)
    }

    /// The claim that fresh rows of a lane were to wait for has come to no batch that they could wait for.
    pub(super) fn end_partial_claim(&mut self, worker: usize) {
        let Some(me) = self.workers.get_mut(worker) else { return };
        let lane = (std::mem::take(&mut me.scanning_partial) as usize).checked_sub(1);
        if let Some(lane) = lane.and_then(|lane| self.lanes.get_mut(lane)) {
            lane.partial_since = 0;
        }
    }

    /// Nobody waits for the batches of a worker any more, which will not go on with what has come since.
    pub(super) fn wait_for_no_batch_of(&mut self, worker: usize) {
        self.end_partial_claim(worker);
        let Some(me) = self.workers.get(worker) else { return };
        for flight in me.flights.iter().filter(|flight| flight.rows > 0) {
            if let Some(lane) = self.lanes.get_mut(flight.lane as usize) {
                lane.partial_landed(flight);
            }
        }
    }
}
