//! Batches that fail on the way: the search for the record at fault, in which nothing is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::delivery::backoff::Backoff;

const SECOND: Micros = 1_000_000;
const PAUSES: Backoff = Backoff { min: Duration::from_millis(200), max: Duration::from_secs(300) };
const FAILURE: RetryDelay = RetryDelay { backoff: PAUSES, jitter: 1.0, at_least: Duration::ZERO };

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
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
struct World {
    shared_state: Box<SharedState>,
    queue: BTreeSet<i64>,
    /// Rows that somebody else has locked, which a claim skips if they are held back.
    locked: BTreeSet<i64>,
    /// The flights of each worker, with their rows.
    flights: Vec<Vec<(usize, Vec<i64>)>>,
    now: Micros,
    requests: Vec<Vec<i64>>,
}

const BATCH: usize = 1000;

impl World {
    fn new(workers: usize) -> World {
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

    fn publish(&mut self, ids: impl IntoIterator<Item = i64>) {
        let ids: BTreeSet<i64> = ids.into_iter().collect();
        if let (Some(lo), Some(hi)) = (ids.first(), ids.last()) {
            self.shared_state.publish(DB, &[queued(1, *lo, *hi)], self.now);
        }
        self.queue.extend(ids);
    }

    /// Claims and sends a batch. `Err`: when there will be one.
    fn claim(&mut self, worker: usize) -> Result<(), Option<Micros>> {
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

    fn end_flight(&mut self, worker: usize, way: Way) {
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
                    let flight_result = FlightResult { kept: 1, ..FlightResult::default() };
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
                let flight_result =
                    FlightResult { judged: true, kept: judged.len(), left: &left, ..FlightResult::default() };
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
    fn run(&mut self, until: Micros, way: impl Fn(&[i64]) -> Way) {
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

fn unless(poison: i64) -> impl Fn(&[i64]) -> Way {
    move |rows| if rows.contains(&poison) { Way::Fails } else { Way::Arrives }
}

#[test]
fn of_a_thousand_the_one_is_found_in_some_seconds_while_others_come() {
    for poison in [1024, 1500, 2023] {
        let mut world = World::new(1);
        world.publish(1024..2024);
        let start = world.now;
        for step in 0..100 {
            world.publish([100_000 + step]);
            world.run(start + step * SECOND / 10, unless(poison));
        }
        world.run(world.now + SECOND, unless(poison));
        assert_eq!(world.queue, BTreeSet::from([poison]));
        assert_eq!(world.shared_state.held_back_rows(DB, 1), 1);
        assert!(world.requests.len() < 160, "{}", world.requests.len());
    }
}

#[test]
fn of_a_batch_that_is_all_there_is_the_one_is_found_within_a_minute() {
    for poison in 1024..1064 {
        let mut world = World::new(1);
        world.publish(1024..1064);
        world.run(60 * SECOND, unless(poison));
        assert_eq!(world.queue, BTreeSet::from([poison]));
        let alone = world.requests.iter().filter(|rows| rows.as_slice() == [poison]).count();
        assert!((1..10).contains(&alone), "{alone}: it waits longer each time");
    }
}

#[test]
fn where_both_ends_of_a_batch_that_is_all_there_is_are_at_fault_the_others_pass() {
    let poison: BTreeSet<i64> = (1024..1030).chain(1058..1064).collect();
    let mut world = World::new(1);
    world.publish(1024..1064);
    world.run(2000 * SECOND, |rows| match rows.iter().any(|row| poison.contains(row)) {
        true => Way::Fails,
        false => Way::Arrives,
    });
    assert_eq!(world.queue, poison);
}

#[test]
fn an_outage_is_asked_no_more_often_than_the_pauses_allow_and_ends_at_once() {
    let mut world = World::new(1);
    world.publish(1024..6024);
    let start = world.now;
    world.run(start + 3600 * SECOND, |_| Way::Fails);
    // What fails joins the suspects, whose pauses grow to 300 s.
    assert!(world.requests.len() <= 5 + 12 + 12, "{} requests", world.requests.len());
    assert!(
        world.shared_state.held_back_entries().iter().all(|entry| !entry.is_isolated),
        "nobody was found"
    );
    assert_eq!(world.queue.len(), 5000);
    let before = world.requests.len();
    world.run(start + 2 * 3600 * SECOND, |_| Way::Arrives);
    assert!(world.queue.is_empty());
    let sizes: Vec<usize> = world.requests[before..].iter().map(Vec::len).collect();
    assert!(sizes.len() <= 6 + 1, "{sizes:?}");
}

/// The results of the attempts at row 1024 that are due, while everything else is delivered.
fn attempts(world: &mut World) -> Vec<RejectAction> {
    let mut sentences = Vec::new();
    while world.claim(0).is_ok() {
        let (flight, rows) = world.flights[0][0].clone();
        if rows != [1024] {
            world.end_flight(0, Way::Arrives);
            continue;
        }
        let action = world.shared_state.judge_isolated(0, flight, true, 3, world.now).unwrap();
        sentences.push(action);
        world.flights[0].clear();
        let flight_result = FlightResult { kept: 1, ..FlightResult::default() };
        world.shared_state.end_flight(0, flight, [1024], flight_result, world.now);
        if action != RejectAction::DeadLetter(3) {
            world.shared_state.hold_back(DB, 1, 1024, world.now + SECOND);
        }
    }
    sentences
}

#[test]
fn a_record_that_fails_by_itself_is_counted_only_if_others_arrive() {
    let mut world = World::new(1);
    world.publish(1024..1064);
    world.run(60 * SECOND, unless(1024));
    let mut sentences = Vec::new();
    // Those that were delivered after it was found count once.
    for step in 0..12 {
        if step >= 10 {
            world.publish([100_000 + step]);
        }
        world.now += 1000 * SECOND;
        sentences.extend(attempts(&mut world));
    }
    let waits = |action: &RejectAction| matches!(action, RejectAction::Retry(_));
    assert!(sentences.len() >= 11 && sentences[..10].iter().all(waits), "{sentences:?}");
    while sentences.last() != Some(&RejectAction::DeadLetter(3)) {
        world.publish([200_000 + world.now]);
        world.now += 1000 * SECOND;
        assert!(sentences.len() < 16, "{sentences:?}");
        sentences.extend(attempts(&mut world));
    }
    assert_eq!((world.shared_state.held_back_rows(DB, 1), world.shared_state.claims.len()), (0, 0));
}

#[test]
fn a_record_that_is_to_be_given_up_and_cannot_be_is_tried_no_more_often_than_the_pauses_allow() {
    let mut world = World::new(1);
    world.publish(1024..1064);
    world.run(60 * SECOND, unless(1024));
    world.now += 1000 * SECOND;
    let before = world.requests.len();
    let end = world.now + 100 * SECOND;
    while world.now < end {
        match world.claim(0) {
            Ok(()) => {
                let (flight, rows) = world.flights[0].remove(0);
                assert_eq!(rows, [1024]);
                let action = world.shared_state.judge_isolated(0, flight, true, 1, world.now);
                assert!(matches!(action, Some(RejectAction::DeadLetter(_))), "{action:?}");
                // Somebody has locked the dead letters.
                let flight_result =
                    FlightResult { left: &[1024], failure: Some(FAILURE), ..FlightResult::default() };
                world.now += SECOND / 1000;
                world.shared_state.end_flight(0, flight, [1024], flight_result, world.now);
            }
            Err(at) => world.now = at.unwrap(),
        }
    }
    assert!((1..20).contains(&(world.requests.len() - before)), "{}", world.requests.len() - before);
}

#[test]
fn what_the_extension_leaves_behind_is_free() {
    let mut world = World::new(1);
    world.publish(1024..1064);
    world.run(30 * SECOND, unless(1030));
    world.publish(2048..2060);
    world.claim(0).unwrap();
    world.end_flight(0, Way::Fails);
    assert!(world.shared_state.held_back_rows(DB, 1) > 1);
    world.shared_state.close_lanes(DB);
    assert_eq!((world.shared_state.held_back_rows(DB, 1), world.shared_state.claims.len()), (0, 0));
}

fn any_way() -> impl Strategy<Value = Way> {
    prop_oneof![
        4 => Just(Way::Arrives), 5 => Just(Way::Fails), 1 => Just(Way::Waits), 1 => Just(Way::Rejected),
        1 => Just(Way::Dies),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Publish(i64, i64),
    Claim(usize),
    Land(usize, Way),
    Pass(Micros),
    Sweep,
    Resume,
    /// Somebody locks rows, or releases all.
    Lock(i64, i64),
    Unlock,
    /// Rows are removed by hand, or superseded.
    Remove(i64, i64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let span = || (0_i64..40, 1_i64..40).prop_map(|(lo, rows)| (lo * 37, rows));
    prop_oneof![
        3 => span().prop_map(|(lo, rows)| Step::Publish(lo, rows)),
        8 => (0..2_usize).prop_map(Step::Claim),
        8 => (0..2_usize, any_way()).prop_map(|(worker, way)| Step::Land(worker, way)),
        4 => (0..400 * SECOND).prop_map(Step::Pass),
        1 => Just(Step::Sweep),
        1 => Just(Step::Resume),
        1 => span().prop_map(|(lo, rows)| Step::Lock(lo, rows)),
        1 => Just(Step::Unlock),
        1 => span().prop_map(|(lo, rows)| Step::Remove(lo, rows)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn no_row_is_ever_lost_nor_in_two_hands(steps in prop::collection::vec(any_step(), 0..120)) {
        let mut world = World::new(2);
        let mut offset = 1 << 20;
        for step in steps {
            match step {
                Step::Publish(lo, rows) => {
                    world.publish(offset + lo..offset + lo + rows);
                    offset += 4096;
                }
                Step::Claim(worker) => {
                    let _none = world.claim(worker);
                }
                Step::Land(worker, way) => world.end_flight(worker, way),
                Step::Pass(time) => world.now += time,
                Step::Sweep => {
                    world.shared_state.sweep(DB, true);
                }
                Step::Resume => world.shared_state.retry_all(DB, world.now),
                Step::Lock(lo, rows) => world.locked.extend(offset - 4096 + lo..offset - 4096 + lo + rows),
                Step::Unlock => world.locked.clear(),
                Step::Remove(lo, rows) => {
                    let gone = offset - 4096 + lo..offset - 4096 + lo + rows;
                    let in_flight: BTreeSet<i64> =
                        world.flights.iter().flatten().flat_map(|(_, rows)| rows.iter().copied()).collect();
                    world.queue.retain(|id| !gone.contains(id) || in_flight.contains(id));
                }
            }
            let carried: Vec<i64> =
                world.flights.iter().flatten().flat_map(|(_, rows)| rows.iter().copied()).collect();
            let distinct: BTreeSet<i64> = carried.iter().copied().collect();
            prop_assert_eq!(carried.len(), distinct.len(), "nobody has what another has");
        }
        world.locked.clear();
        // In the end everything succeeds, and no sweep searches for anything.
        for worker in 0..2 {
            while !world.flights[worker].is_empty() {
                world.end_flight(worker, Way::Arrives);
            }
        }
        world.run(world.now + 10_000 * SECOND, |_| Way::Arrives);
        prop_assert!(world.queue.is_empty(), "{:?}", world.queue);
        prop_assert_eq!(world.shared_state.claims.len(), 0);
        prop_assert_eq!(world.shared_state.held_back_rows(DB, 1), 0);
        prop_assert_eq!(world.shared_state.lane(0).unwrap().in_flight, 0);
    }
}
