//! A queue whose rows workers claim and send, with the outcomes that a test chooses.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::delivery::backoff::Backoff;

pub(super) const SECOND: Micros = 1_000_000;
const PAUSES: Backoff = Backoff { min: Duration::from_millis(200), max: Duration::from_secs(300) };
pub(super) const FAILURE: RetryDelay = RetryDelay { backoff: PAUSES, jitter: 1.0, at_least: Duration::ZERO };

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Arrives,
    /// With a failure that may be about a record.
    Fails,
    /// With one that is not: throttled, or rejected as a whole.
    Waits,
    /// Algolia rejects the rows, and they are retried.
    Rejected,
    /// Its worker dies.
    Dies,
}

/// A queue whose rows are claimed as workers do it.
pub(super) struct World {
    pub(super) shared_state: Box<SharedState>,
    pub(super) queue: BTreeSet<i64>,
    /// Rows that somebody else has locked, which a claim skips if they are held back.
    pub(super) locked: BTreeSet<i64>,
    /// The flights of each worker, with their rows.
    pub(super) flights: Vec<Vec<(usize, Vec<i64>)>>,
    pub(super) now: Micros,
    pub(super) requests: Vec<Vec<i64>>,
}

pub(super) const BATCH: usize = 1000;

impl World {
    pub(super) fn new(workers: usize) -> World {
        let flights = vec![Vec::new(); workers];
        let mut shared_state = shared_state(workers);
        shared_state.open_lane(DB, 1, false, 0);
        World {
            shared_state,
            queue: BTreeSet::new(),
            locked: BTreeSet::new(),
            flights,
            now: SECOND,
            requests: Vec::new(),
        }
    }

    pub(super) fn publish(&mut self, ids: impl IntoIterator<Item = i64>) {
        let ids: BTreeSet<i64> = ids.into_iter().collect();
        if let (Some(lo), Some(hi)) = (ids.first(), ids.last()) {
            self.shared_state.publish(DB, &[queued(1, *lo, *hi)], self.now);
        }
        self.queue.extend(ids);
    }

    /// Claims and sends a batch. `Err`: when there will be one.
    pub(super) fn claim(&mut self, worker: usize) -> Result<(), Option<Micros>> {
        let (lane, claimable) = match self.shared_state.next(worker, HUNGRY, self.now) {
            Next::Claim { lane, claimable, .. } => (lane, claimable),
            Next::Wait { until, .. } => return Err(until),
        };
        let Span { lo, hi } = claimable.span;
        let mut rows: Vec<i64> = self.queue.range(lo..=hi).copied().collect();
        rows.retain(|id| claimable.held_back.is_none() || !self.locked.contains(id));
        if claimable.end == QueueEnd::Newest {
            rows.reverse();
        }
        let exhausted = rows.len() <= BATCH;
        rows.truncate(BATCH);
        let last = rows.last().copied();
        let taken: Vec<i64> = match claimable.held_back {
            Some(held_back) => {
                let own = rows.into_iter().filter(|id| self.shared_state.is_in_held_back(held_back, *id));
                own.take(usize::try_from(held_back.most).unwrap()).collect()
            }
            None => {
                rows.into_iter().filter(|id| self.shared_state.claim(worker, *id) == Claim::Granted).collect()
            }
        };
        if taken.is_empty() {
            if let Some(held_back) = claimable.held_back {
                let read = match claimable.end {
                    _ if exhausted => Span { lo, hi },
                    QueueEnd::Newest => Span { lo: last.unwrap(), hi },
                    QueueEnd::Oldest => Span { lo, hi: last.unwrap() },
                };
                self.shared_state.held_back_not_found(held_back, read, self.now);
            }
        }
        let rest = match (claimable.end, last) {
            _ if exhausted || claimable.held_back.is_some() => None,
            (QueueEnd::Newest, Some(last)) => Some(Span { lo, hi: last - 1 }),
            (QueueEnd::Oldest, Some(last)) => Some(Span { lo: last + 1, hi }),
            (_, None) => None,
        };
        let span = Span {
            lo: taken.iter().min().copied().unwrap_or(0),
            hi: taken.iter().max().copied().unwrap_or(0),
        };
        let held_back = claimable.held_back.map_or(0, |held_back| held_back.place as u32 + 1);
        let flight = Flight {
            rows: taken.len() as i64,
            bytes: 1,
            lane: lane as u32,
            fresh: claimable.fresh,
            span,
            started_at: self.now,
            held_back,
            partial: false,
        };
        let place = self.shared_state.enter_claim(worker, rest, (!taken.is_empty()).then_some(flight));
        self.shared_state.end_claim(worker);
        if let Some(place) = place {
            self.requests.push(taken.clone());
            self.flights[worker].push((place, taken));
        }
        self.now += 1;
        Ok(())
    }

    pub(super) fn end_flight(&mut self, worker: usize, way: Way) {
        let Some((flight, rows)) = (!self.flights[worker].is_empty()).then(|| self.flights[worker].remove(0))
        else {
            return;
        };
        self.now += 1;
        let now = self.now;
        let started_at = self.shared_state.workers[worker].flights[flight].started_at;
        let flight_result = match way {
            Way::Dies => {
                self.flights[worker].clear();
                self.shared_state.worker_exited(worker, WorkerExit::Failed, 0, now);
                let (slot, launch) = self.shared_state.reserve_slot(DB, worker as u32).unwrap();
                assert_eq!(slot, worker);
                self.shared_state.attach_worker(slot, launch, 1, 1, now);
                return;
            }
            Way::Arrives => {
                self.queue.retain(|id| !rows.contains(id));
                FlightResult { judged: true, delivered: &rows, ..FlightResult::default() }
            }
            Way::Fails => {
                if let Some(RejectAction::Retry(failures)) =
                    self.shared_state.judge_isolated(worker, flight, true, 0, now)
                {
                    let pause = PAUSES.delay(failures as u32, 1.0).as_micros() as Micros;
                    let flight_result = FlightResult { withheld: 1, ..FlightResult::default() };
                    self.shared_state.end_flight(worker, flight, rows.iter().copied(), flight_result, now);
                    self.shared_state.hold_back(DB, 1, rows[0], now + pause);
                    return;
                }
                FlightResult { left: &rows, failure: Some(FAILURE), ..FlightResult::default() }
            }
            Way::Waits => FlightResult { left: &rows, ..FlightResult::default() },
            Way::Rejected => {
                let judged: Vec<i64> = rows.iter().copied().take(3).collect();
                let judged: Vec<i64> = judged
                    .into_iter()
                    .filter(|id| {
                        self.shared_state.judge_rejection(worker, 1, *id, 1000) != RejectAction::DeadLetter(1)
                    })
                    .collect();
                let left: Vec<i64> = rows.iter().copied().filter(|id| !judged.contains(id)).collect();
                let flight_result = FlightResult {
                    judged: true,
                    withheld: judged.len(),
                    left: &left,
                    ..FlightResult::default()
                };
                self.shared_state.end_flight(worker, flight, rows.iter().copied(), flight_result, now);
                for id in judged {
                    self.shared_state.hold_back(DB, 1, id, now + SECOND);
                }
                return;
            }
        };
        let is_held_back = self.shared_state.workers[worker].flights[flight].held_back != 0;
        self.shared_state.end_flight(worker, flight, rows.iter().copied(), flight_result, now);
        // The results of suspects say nothing about the others.
        if way == Way::Waits || (way == Way::Fails && !is_held_back) {
            let lane = self.shared_state.lane_at(0).unwrap();
            lane.back_off(LaneFailure::Retry, 0, "no", (started_at, now + SECOND / 5), now);
        }
    }

    /// Works with one worker until nothing is left to do before `until`.
    pub(super) fn run(&mut self, until: Micros, way: impl Fn(&[i64]) -> Way) {
        while self.now < until {
            match self.claim(0) {
                Ok(()) => {
                    let sent = self.flights[0].first().map(|(_, rows)| rows.clone());
                    if let Some(rows) = sent {
                        self.end_flight(0, way(&rows));
                    }
                }
                Err(Some(at)) => self.now = at.max(self.now + 1),
                Err(None) => return,
            }
        }
    }
}
