//! Batches that are not full: one of an index is in flight at a time, and no row waits for it too long.

use super::*;
use crate::shared_state::partial_batch::ROUND_TRIP;

/// Any time but zero, which means none.
pub(super) const NOW: Micros = 1_000_000;

pub(super) fn publish(
    shared_state: &mut SharedState,
    index: i32,
    lo: i64,
    rows: i64,
    now: Micros,
) -> Vec<u64> {
    shared_state.publish(DB, &[queued(index, lo, lo + rows - 1)], now).iter().collect()
}

/// Lets a worker claim so many rows of what it is given next. `cut`: there are more rows. Returns the flight.
pub(super) fn take(
    shared_state: &mut SharedState,
    worker: usize,
    rows: i64,
    cut: bool,
    now: Micros,
) -> usize {
    let Next::Claim { lane, claimable, .. } = shared_state.next(worker, HUNGRY, now) else {
        panic!("nothing to claim")
    };
    let flight = Flight {
        rows,
        bytes: 300 * rows,
        lane: lane as u32,
        fresh: claimable.fresh,
        span: claimable.span,
        started_at: now + 1,
        held_back: 0,
        partial: claimable.fresh && !cut,
    };
    let rest = cut.then_some(claimable.span);
    let flight = shared_state.enter_claim(worker, rest, Some(flight)).unwrap();
    shared_state.end_claim(worker);
    flight
}

/// Whether a worker is given something, and if not, until when it waits.
pub(super) fn look(shared_state: &mut SharedState, worker: usize, now: Micros) -> Result<(), Option<Micros>> {
    match shared_state.next(worker, HUNGRY, now) {
        Next::Claim { .. } => Ok(()),
        Next::Wait { until, .. } => Err(until),
    }
}

/// Both workers sleep, and the first one has a batch with one row in flight.
pub(super) fn with_a_batch_under_way() -> (Box<SharedState>, usize) {
    let mut shared_state = shared_state(2);
    assert_eq!(look(&mut shared_state, 1, NOW), Err(None));
    publish(&mut shared_state, 1, 1024, 1, NOW);
    let flight = take(&mut shared_state, 0, 1, false, NOW);
    assert_eq!(look(&mut shared_state, 0, NOW), Err(Some(NOW + 1 + ROUND_TRIP)));
    (shared_state, flight)
}

#[test]
fn rows_wait_for_the_return_of_a_batch_that_is_not_full_with_whichever_worker() {
    let (mut shared_state, flight) = with_a_batch_under_way();
    assert_eq!(publish(&mut shared_state, 1, 2048, 1, NOW + 10), [0; 0], "nobody is woken");
    assert_eq!(publish(&mut shared_state, 1, 3072, 1, NOW + 20), [0; 0]);
    for worker in 0..2 {
        assert!(look(&mut shared_state, worker, NOW + 30).is_err());
    }
    shared_state.settled(0, flight, &[1024], NOW + 40);
    let Next::Claim { claimable, .. } = shared_state.next(0, HUNGRY, NOW + 50) else { panic!("they wait") };
    assert!(claimable.span.lo <= 2048 && claimable.span.hi >= 3072, "both go together");
}

#[test]
fn fresh_rows_far_apart_travel_together() {
    let mut shared_state = shared_state(2);
    for lo in [1024, 1 << 30, 1 << 20] {
        publish(&mut shared_state, 1, lo, 1, NOW);
    }
    let Next::Claim { claimable, .. } = shared_state.next(0, HUNGRY, NOW) else { panic!("nothing to claim") };
    assert_eq!(claimable.span.lo, 1 << 30, "one query looks at what lies close together");
    let mut more = Vec::new();
    while let Some(span) = shared_state.next_to_fill(0) {
        more.push(span.lo);
    }
    assert_eq!(more, [1 << 20, 1024]);
    assert_eq!(shared_state.lane(0).unwrap().fresh_rows, 0);
    // If the worker ended now, all of them would be searched for.
    shared_state.worker_exited(0, WorkerExit::Failed, 0, NOW);
    let backlog = shared_state.lane(0).unwrap().backlog.bounds().unwrap();
    assert!(backlog.lo <= 1024 && backlog.hi >= 1 << 30);
}

#[test]
fn rows_of_one_claim_wait_for_another_that_is_being_made() {
    let mut shared_state = shared_state(2);
    publish(&mut shared_state, 1, 1024, 1, NOW);
    assert_eq!(look(&mut shared_state, 1, NOW), Ok(()));
    publish(&mut shared_state, 1, 2048, 1, NOW);
    assert!(look(&mut shared_state, 0, NOW).is_err());
    // Somebody else had locked the row of the first.
    shared_state.enter_claim(1, None, None);
    shared_state.end_claim(1);
    assert_eq!(look(&mut shared_state, 0, NOW), Ok(()));
}

#[test]
fn rows_enough_for_a_batch_do_not_wait() {
    let (mut shared_state, _) = with_a_batch_under_way();
    assert_eq!(publish(&mut shared_state, 1, 2048, 999, NOW), [0; 0]);
    assert_ne!(publish(&mut shared_state, 1, 4096, 1, NOW), [0; 0]);
    take(&mut shared_state, 0, 1000, true, NOW);
    let lane = shared_state.lane(0).unwrap();
    assert_eq!(lane.partial_since, NOW + 1, "of the two it is the first that others wait for");
}

#[test]
fn bytes_enough_for_a_batch_do_not_wait_either() {
    let (mut shared_state, flight) = with_a_batch_under_way();
    shared_state.settled(0, flight, &[1024], NOW);
    publish(&mut shared_state, 1, 2048, 1, NOW);
    take(&mut shared_state, 0, 1, false, NOW);
    shared_state.lane_at(0).unwrap().row_bytes = HUNGRY.batch_bytes / 4;
    publish(&mut shared_state, 1, 3072, 3, NOW);
    assert!(look(&mut shared_state, 1, NOW).is_err());
    publish(&mut shared_state, 1, 4096, 1, NOW);
    assert_eq!(look(&mut shared_state, 1, NOW), Ok(()));
}

#[test]
fn nobody_waits_for_a_full_batch() {
    let mut shared_state = shared_state(2);
    publish(&mut shared_state, 1, 1024, 1, NOW);
    take(&mut shared_state, 0, 1000, true, NOW);
    // The rest of the span belongs to the backlog, which does not wait.
    take(&mut shared_state, 1, 1, false, NOW);
    publish(&mut shared_state, 1, 2048, 1, NOW);
    assert_eq!(look(&mut shared_state, 0, NOW), Ok(()));
}

#[test]
fn an_answer_that_takes_long_is_waited_for_no_longer() {
    let (mut shared_state, first) = with_a_batch_under_way();
    publish(&mut shared_state, 1, 2048, 1, NOW + 10);
    let late = NOW + 1 + ROUND_TRIP;
    assert_eq!(look(&mut shared_state, 0, late - 1), Err(Some(late)));
    take(&mut shared_state, 0, 1, false, late);
    publish(&mut shared_state, 1, 3072, 1, late + 10);
    // The others no longer wait for the return of the first one.
    shared_state.settled(0, first, &[1024], late + 20);
    assert_eq!(look(&mut shared_state, 0, late + 20), Err(Some(late + 1 + ROUND_TRIP)));
}

#[test]
fn whoever_has_the_batch_and_no_more_room_wakes_another_in_time() {
    let mut shared_state = shared_state(2);
    let full = WorkerLimits { slots: 1, ..HUNGRY };
    publish(&mut shared_state, 1, 1024, 1, NOW);
    take(&mut shared_state, 0, 1, false, NOW);
    let late = NOW + 1 + ROUND_TRIP;
    assert_eq!(shared_state.next(1, full, NOW), Next::Wait { until: None, wake: None });
    assert_eq!(shared_state.next(0, full, NOW), Next::Wait { until: Some(late), wake: None });
    assert_eq!(publish(&mut shared_state, 1, 2048, 1, NOW + 10), [0; 0]);
    assert_eq!(shared_state.next(0, full, late), Next::Wait { until: None, wake: Some(1001) });
}

#[test]
fn the_batch_of_a_worker_that_ends_or_retires_is_not_waited_for() {
    let (mut shared_state, _) = with_a_batch_under_way();
    shared_state.worker_exited(0, WorkerExit::Failed, 0, NOW);
    assert_eq!(shared_state.lane(0).unwrap().partial_since, 0);

    let mut shared_state = shared_state_with_a_second_worker_under_way();
    shared_state.retire_workers(DB, 1);
    assert!(matches!(look(&mut shared_state, 0, NOW), Err(None)));
    assert_eq!(publish(&mut shared_state, 1, 2048, 1, NOW), [1000]);
    assert_eq!(look(&mut shared_state, 0, NOW), Ok(()));

    // It is notified when it is about to claim.
    let mut shared_state = self::shared_state(2);
    publish(&mut shared_state, 1, 1024, 1, NOW);
    let Next::Claim { claimable, .. } = shared_state.next(1, HUNGRY, NOW) else { panic!("nothing to claim") };
    shared_state.retire_workers(DB, 1);
    let span = claimable.span;
    let flight = Flight {
        rows: 1,
        bytes: 1,
        lane: 0,
        fresh: true,
        span,
        started_at: NOW,
        held_back: 0,
        partial: true,
    };
    shared_state.enter_claim(1, None, Some(flight)).unwrap();
    shared_state.end_claim(1);
    assert_eq!(shared_state.lane(0).unwrap().partial_since, 0);
}

fn shared_state_with_a_second_worker_under_way() -> Box<SharedState> {
    let mut shared_state = shared_state(2);
    publish(&mut shared_state, 1, 1024, 1, NOW);
    take(&mut shared_state, 1, 1, false, NOW);
    shared_state
}

#[test]
fn a_worker_that_dies_while_it_claims_is_not_waited_for() {
    let mut shared_state = shared_state(2);
    publish(&mut shared_state, 1, 1024, 1, NOW);
    assert_eq!(look(&mut shared_state, 0, NOW), Ok(()));
    assert_ne!(shared_state.lane(0).unwrap().partial_since, 0);
    shared_state.worker_exited(0, WorkerExit::Failed, 0, NOW);
    assert_eq!(shared_state.lane(0).unwrap().partial_since, 0);
    publish(&mut shared_state, 1, 2048, 1, NOW);
    assert_eq!(look(&mut shared_state, 1, NOW), Ok(()));
}

#[test]
fn the_backlog_and_history_do_not_wait() {
    let (mut shared_state, flight) = with_a_batch_under_way();
    assert_eq!(look(&mut shared_state, 1, NOW), Err(None));
    assert_ne!(publish(&mut shared_state, 1, -2048, 1, NOW), [0; 0], "history wakes somebody");
    let second = take(&mut shared_state, 1, 1, false, NOW);
    let lane = shared_state.lane(0).unwrap();
    assert_eq!(lane.partial_since, NOW + 1);
    shared_state.released(1, second, []);
    assert_eq!(shared_state.lane(0).unwrap().partial_since, NOW + 1);
    assert_eq!(look(&mut shared_state, 1, NOW), Ok(()), "what was given back is of the backlog");
    shared_state.settled(0, flight, &[1024], NOW);
}

#[test]
fn the_tail_has_its_turns_beside_fresh_rows() {
    let (mut shared_state, _) = with_a_batch_under_way();
    shared_state.lane_at(0).unwrap().sweep();
    let worker_limits = WorkerLimits { tail_share: 10, ..HUNGRY };
    let mut oldest = 0;
    for lo in (2048..).step_by(1024).take(20) {
        publish(&mut shared_state, 1, lo, 1, NOW);
        let (_, span, end, fresh) = next_span(&mut shared_state, worker_limits, NOW).unwrap();
        assert_eq!(fresh, end == QueueEnd::Newest);
        oldest += usize::from(end == QueueEnd::Oldest);
        shared_state.enter_claim(0, Some(span), None);
        shared_state.end_claim(0);
    }
    assert_eq!(oldest, 2);
}

#[test]
fn an_index_waits_for_batches_of_its_own_alone() {
    let (mut shared_state, _) = with_a_batch_under_way();
    assert_ne!(publish(&mut shared_state, 2, 2048, 1, NOW), [0; 0]);
    assert_eq!(look(&mut shared_state, 1, NOW), Ok(()));
}

#[test]
fn linger_waits_as_long_as_it_says_and_for_no_batch() {
    let mut shared_state = shared_state(1);
    let patient = WorkerLimits { linger: 500, ..HUNGRY };
    publish(&mut shared_state, 1, 1024, 1, NOW);
    let Next::Claim { claimable, .. } = shared_state.next(0, patient, NOW + 500) else {
        panic!("nothing to claim")
    };
    let (span, started_at) = (claimable.span, NOW + 500);
    let flight =
        Flight { rows: 1, bytes: 1, lane: 0, fresh: true, span, started_at, held_back: 0, partial: true };
    shared_state.enter_claim(0, None, Some(flight)).unwrap();
    shared_state.end_claim(0);
    assert_eq!(wait_until(&mut shared_state, patient, NOW + 500), None);
    assert_eq!(publish(&mut shared_state, 1, 2048, 1, NOW + 600), [1000]);
    assert_eq!(wait_until(&mut shared_state, patient, NOW + 600), Some(NOW + 1100));
}

#[test]
fn after_a_failure_rows_wait_for_the_backoff_and_not_for_the_batch() {
    let (mut shared_state, flight) = with_a_batch_under_way();
    publish(&mut shared_state, 1, 2048, 1, NOW);
    shared_state.released(0, flight, [1024]);
    let retry_at = NOW + 10 * ROUND_TRIP;
    shared_state.lane_at(0).unwrap().back_off(LaneFailure::Retry, 1, "503", (NOW + 1, retry_at), NOW + 5);
    assert_eq!(look(&mut shared_state, 0, NOW + 5), Err(Some(retry_at)));
    assert_eq!(look(&mut shared_state, 0, retry_at), Ok(()));
}

#[test]
fn a_clock_set_back_makes_rows_wait_no_longer_for_a_batch() {
    let (mut shared_state, _) = with_a_batch_under_way();
    let later = 100 * 3600 * 1_000_000;
    publish(&mut shared_state, 1, 2048, 1, NOW);
    shared_state.tick(later);
    shared_state.lane_at(0).unwrap().partial_since = later;
    let now = NOW + 10;
    shared_state.tick(now);
    assert_eq!(look(&mut shared_state, 0, now), Err(Some(now + ROUND_TRIP)));
}
