//! The life of a flight: rows are claimed, the flight begins, and it ends with a result or with its worker.
#![forbid(unsafe_code)]

use super::lane::NEIGHBOURHOOD;
use super::{Flight, Lane, Micros, RetryDelay, SharedState, Worker};
use crate::claims::{Claim, Holder};
use crate::id_ranges::Span;

/// What became of the rows of a flight.
#[derive(Clone, Copy, Debug, Default)]
pub struct FlightResult<'a> {
    /// Algolia has accepted or rejected the records, and has not only failed.
    pub judged: bool,
    /// The rows that were delivered and are deleted from the queue.
    pub delivered: &'a [i64],
    /// How many older versions were deleted with them.
    pub superseded: i64,
    /// How many rows are dead letters or held back, so that nobody may claim them now.
    pub withheld: usize,
    /// The versions in the batch: each object's hash and row.
    pub versions: &'a [(i64, i64)],
    /// If a request of the batch may still be executed: until when its objects are held.
    pub held_until: Option<Micros>,
    /// The rows that wait again, if the batch failed on the way or its rows are held back.
    pub left: &'a [i64],
    /// The batch failed on the way, and perhaps because of one of its rows.
    pub failure: Option<RetryDelay>,
}

/// Where the rows of a batch wait again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedFlight {
    pub lane: usize,
    /// Whether they are held back.
    pub held_back: bool,
    /// The record because of which the batch failed, if it has just been identified.
    pub found: Option<i64>,
}

impl SharedState {
    /// Claims a row.
    pub fn claim(&mut self, worker: usize, id: i64) -> Claim {
        let Some(me) = self.workers.get(worker) else {
            return Claim::Full;
        };
        self.claims.claim(Holder::worker(worker), me.database, id)
    }

    /// Enters the claimed rows as a flight before the claiming transaction ends. The `rest` of the span stays with the
    /// worker until [`SharedState::end_claim`]: rows that were read but not claimed are locked until then, and another
    /// worker would skip them. Returns the flight's place; `None` if nothing was claimed.
    pub fn enter_claim(
        &mut self,
        worker: usize,
        rest: Option<Span>,
        flight: Option<Flight>,
    ) -> Option<usize> {
        let me = self.workers.get_mut(worker)?;
        let lane = (me.scanning_lane as usize).checked_sub(1)?;
        let place = match flight {
            Some(flight) => Some(me.add_flight(flight)?),
            None => None,
        };
        match rest {
            Some(rest) => me.scanning = rest,
            None => me.scanning_lane = 0,
        }
        if let Some(flight) = &flight {
            let waits_for_it = !me.retire;
            if flight.partial && waits_for_it {
                me.scanning_partial = 0;
            }
            let lane = self.lanes.get_mut(lane)?;
            lane.in_flight += flight.rows;
            lane.flight_started(flight, waits_for_it);
        }
        let held_back = self.workers.get(worker).map_or(0, |me| me.scanning_held_back);
        if let (Some(flight), Some(held_back)) = (flight, (held_back as usize).checked_sub(1)) {
            if let Some(entry) = self.held_back.get_mut(held_back) {
                (entry.in_flight, entry.is_missing) = (flight.rows, false);
            }
        }
        place
    }

    /// The claiming transaction has ended: the rest of the span waits again.
    pub fn end_claim(&mut self, worker: usize) {
        self.end_postponement(worker);
        self.end_partial_claim(worker);
        let Some(me) = self.workers.get_mut(worker) else { return };
        let (lane, span) = (std::mem::take(&mut me.scanning_lane) as usize, me.scanning);
        me.fills_batch = false;
        if let Some(held_back) = (std::mem::take(&mut me.scanning_held_back) as usize).checked_sub(1) {
            // Rows held back wait in their entry.
            self.end_held_back_claim(worker, held_back);
            return;
        }
        // If the lane was read to its end, nothing is left.
        let rest = if lane == 0 { Span { lo: 0, hi: -1 } } else { span };
        if self.crash_suspects_claimed(worker, rest) {
            return;
        }
        if let Some(lane) = lane.checked_sub(1).and_then(|lane| self.lanes.get_mut(lane)) {
            lane.give_back(span);
        }
    }

    /// Ends a flight and frees its claims. Rows that were neither delivered nor withheld wait again. Returns where they
    /// wait, unless the lane has been closed meanwhile.
    pub fn end_flight(
        &mut self,
        worker: usize,
        flight: usize,
        ids: impl IntoIterator<Item = i64>,
        flight_result: FlightResult<'_>,
        now: Micros,
    ) -> Option<EndedFlight> {
        let Flight { held_back, rows: claimed, .. } = *self.workers.get(worker)?.flights.get(flight)?;
        let dealt_with = flight_result.delivered.len() + flight_result.withheld;
        let are_left = (dealt_with as i64) < claimed;
        let (mut rows, ids) = (Vec::new(), ids.into_iter());
        let ended = self.remove_flight(
            worker,
            flight,
            ids.inspect(|id| rows.extend((held_back != 0 || are_left).then_some(*id))),
        )?;
        let place = ended.lane as usize;
        if let Some(lane) = self.lanes.get_mut(place) {
            if flight_result.judged {
                lane.answered(ended.started_at);
            }
            if !flight_result.delivered.is_empty() {
                lane.delivered(flight_result.delivered.len() as i64 + flight_result.superseded, now);
                lane.arrived_at = lane.arrived_at.max(ended.started_at);
            }
        }
        self.note_versions(worker, place, flight_result);
        let (held_back, found) = match (held_back as usize).checked_sub(1) {
            Some(entry) => (true, self.end_held_back_flight(entry, worker, &rows, flight_result, now)),
            None if are_left => {
                let failure = flight_result.failure;
                let held_back = failure
                    .is_some_and(|failure| self.hold_back_suspects(place, flight_result.left, failure, now));
                if let (false, Some(lane)) = (held_back, self.lanes.get_mut(place)) {
                    lane.give_back_flight(&ended, rows);
                }
                (held_back, None)
            }
            None => (false, None),
        };
        self.end_object_claims(worker, place, flight_result);
        self.lane(place).map(|_| EndedFlight { lane: place, held_back, found })
    }

    /// The lane of a batch in flight, unless it has been closed meanwhile.
    pub fn lane_of_flight(&self, worker: usize, flight: usize) -> Option<usize> {
        let lane = self.workers.get(worker)?.flights.get(flight)?.lane as usize;
        self.lane(lane).map(|_| lane)
    }

    fn end_object_claims(&mut self, worker: usize, lane: usize, flight_result: FlightResult<'_>) {
        match flight_result.held_until {
            None => self.release_objects(worker, lane, flight_result.versions.iter().map(|(hash, _)| *hash)),
            Some(ends_at) => {
                self.retry_deferred(lane);
                self.quarantine_objects(worker, lane, flight_result.versions.iter().copied(), ends_at);
            }
        }
    }

    /// A whole batch was delivered, and its rows are deleted.
    pub fn settled(&mut self, worker: usize, flight: usize, ids: &[i64], now: Micros) {
        let flight_result = FlightResult { judged: true, delivered: ids, ..FlightResult::default() };
        self.end_flight(worker, flight, ids.iter().copied(), flight_result, now);
    }

    /// A batch was not delivered: its rows wait again.
    pub fn released(&mut self, worker: usize, flight: usize, ids: impl IntoIterator<Item = i64>) {
        self.end_flight(worker, flight, ids, FlightResult::default(), 0);
    }

    fn remove_flight(
        &mut self,
        worker: usize,
        flight: usize,
        ids: impl IntoIterator<Item = i64>,
    ) -> Option<Flight> {
        let ended = self.workers.get_mut(worker)?.remove_flight(flight)?;
        self.unclaim(worker, ids);
        if let Some(lane) = self.lanes.get_mut(ended.lane as usize) {
            lane.in_flight -= ended.rows;
            lane.stop_waiting_for(&ended);
        }
        Some(ended)
    }

    /// A worker ends, whatever it was doing. Everything that it held waits again, but objects only from `held_until`
    /// on, because its requests may still be executed.
    pub fn release_worker(&mut self, worker: usize, held_until: Micros) {
        self.quarantine_all_objects(worker, held_until);
        self.release_held_back(worker);
        self.release_crash_suspects(worker);
        self.wait_for_no_batch_of(worker);
        let Some(me) = self.workers.get_mut(worker) else {
            return;
        };
        let (flights, postponed) = (me.flights, me.postponed);
        let is_held_back = me.scanning_held_back != 0;
        let scanning = (me.scanning_lane as usize).checked_sub(1).map(|lane| (lane, me.scanning));
        let scanning = scanning.filter(|_| !is_held_back);
        *me = Worker::EMPTY;
        self.claims.release_all(Holder::worker(worker));
        for flight in flights.iter().filter(|f| f.rows > 0) {
            if let Some(lane) = self.lanes.get_mut(flight.lane as usize) {
                lane.in_flight -= flight.rows;
                if flight.held_back == 0 {
                    lane.give_back(flight.span);
                }
            }
        }
        if let Some(lane) = self.lanes.get_mut(postponed.lane as usize) {
            postponed.rows.iter().for_each(|span| lane.give_back(span));
        }
        if let Some((lane, span)) = scanning {
            if let Some(lane) = self.lanes.get_mut(lane) {
                lane.give_back(span);
            }
        }
    }
}

impl Lane {
    /// Gives back the rows of a flight. Those far apart come back as spans of their own, so that nobody looks for rows
    /// between them, where many may be dead.
    fn give_back_flight(&mut self, flight: &Flight, mut ids: Vec<i64>) {
        if ids.len() as i64 != flight.rows {
            // Versions are claimed by their objects.
            return self.give_back(flight.span);
        }
        ids.sort_unstable();
        for near in ids.chunk_by(|one, next| next.saturating_sub(*one) <= NEIGHBOURHOOD) {
            if let [lo, .., hi] | [lo @ hi] = near {
                self.give_back(Span { lo: *lo, hi: *hi });
            }
        }
    }
}
