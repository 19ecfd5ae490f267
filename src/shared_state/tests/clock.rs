//! Clocks that are set back.

use super::*;

const SECOND: Micros = 1_000_000;
const HOUR: Micros = 3600 * SECOND;
/// Some time in the third millennium.
const NOW: Micros = 800_000_000 * SECOND;

#[test]
fn a_clock_set_back_makes_no_index_wait_longer() {
    let mut shared_state = shared_state(1);
    shared_state.tick(NOW);
    shared_state.publish(DB, &[queued(1, 1024, 1030)], NOW);
    shared_state.lane_at(0).unwrap().back_off(
        LaneFailure::Retry,
        7,
        "503",
        (NOW - 1, NOW + 10 * SECOND),
        NOW,
    );
    let now = NOW - 3 * HOUR;
    assert_eq!(wait_until(&mut shared_state, HUNGRY, now), Some(now + 10 * SECOND), "as long as it was");
    assert!(
        !shared_state.lane(0).unwrap().started_before_failure(now + 10 * SECOND),
        "the next failure counts as one"
    );
    assert!(next_span(&mut shared_state, HUNGRY, now + 10 * SECOND).is_some());
}

#[test]
fn a_clock_set_back_keeps_neither_records_nor_processes_waiting() {
    let mut shared_state = shared_state(1);
    shared_state.tick(NOW);
    shared_state.publish(DB, &[queued(1, 1024, 1024)], NOW);
    shared_state.judge_rejection(0, 1, 1024, 3);
    shared_state.hold_back(DB, 1, 1024, NOW + SECOND);
    shared_state.worker_exited(0, WorkerExit::Failed, 0, NOW);
    shared_state.counter_ended(DB, true, NOW);
    shared_state.is_sweep_due(DB, 600 * SECOND, NOW);
    let now = NOW - 3 * HOUR;
    shared_state.tick(now);
    let entry = *shared_state.database_mut(DB).unwrap();
    assert_eq!((entry.restart_at, entry.recount_at), (now + SECOND, now + SECOND));
    assert!(!shared_state.is_sweep_due(DB, 600 * SECOND, now + 599 * SECOND));
    assert!(shared_state.is_sweep_due(DB, 600 * SECOND, now + 600 * SECOND));
    let (slot, launch) = shared_state.reserve_slot(DB, 0).unwrap();
    shared_state.attach_worker(slot, launch, 1, 1, now);
    while next_span(&mut shared_state, HUNGRY, now).is_some() {
        shared_state.enter_claim(0, None, None);
        shared_state.end_claim(0);
    }
    assert_eq!(wait_until(&mut shared_state, HUNGRY, now), Some(now + SECOND));
}

#[test]
fn who_comes_a_little_late_has_not_set_the_clock_back() {
    let mut shared_state = shared_state(1);
    shared_state.open_lane(DB, 1, false, 0);
    shared_state.tick(NOW);
    shared_state.lane_at(0).unwrap().retry_at = NOW + 10 * SECOND;
    shared_state.tick(NOW - SECOND);
    shared_state.tick(NOW + 100 * SECOND);
    shared_state.tick(NOW + 99 * SECOND);
    assert_eq!(shared_state.lane(0).unwrap().retry_at, NOW + 10 * SECOND);
}
