//! Backfills in shared state: their rows yield to live ones, and their process starts and ends.

use super::*;

const SECOND: Micros = 1_000_000;

fn removed(index_id: i32, rows: i64) -> CommitDelta {
    CommitDelta { index_id, removed: rows, ..CommitDelta::EMPTY }
}

#[test]
fn history_waits_behind_all_live_rows_and_goes_newest_first() {
    let mut shared_state = shared_state(1);
    let worker_limits = WorkerLimits { tail_share: 50, ..HUNGRY };
    shared_state.publish(DB, &[queued(7, -1100, -1025)], 0);
    shared_state.publish(DB, &[queued(7, -2100, -2049)], 0);
    shared_state.publish(DB, &[queued(7, 1_048_576, 1_048_600)], 0);
    shared_state.lane_mut(DB, 7).unwrap().give_back(Span { lo: 2048, hi: 2050 });
    let mut given = Vec::new();
    while let Some((_, span, end, fresh)) = next_span(&mut shared_state, worker_limits, 0) {
        given.push((span.lo, end, fresh));
        shared_state.enter_claim(0, None, None);
        shared_state.end_claim(0);
    }
    let newest = QueueEnd::Newest;
    let live = &given[..2];
    assert!(live.contains(&(1_048_576, newest, true)), "{given:?}");
    assert!(live.iter().any(|(lo, _, _)| *lo == 2048), "{given:?}");
    assert_eq!(given[2..], [(-1100, newest, false), (-2100, newest, false)]);
}

#[test]
fn the_tail_is_that_of_live_rows_also_after_a_sweep() {
    let mut shared_state = shared_state(1);
    let worker_limits = WorkerLimits { tail_share: 100, ..HUNGRY };
    shared_state.lane_mut(DB, 7).unwrap().sweep();
    let tail = next_span(&mut shared_state, worker_limits, 0);
    assert_eq!(tail, Some((7, Span { lo: 0, hi: i64::MAX }, QueueEnd::Oldest, false)));
    shared_state.enter_claim(0, None, None);
    shared_state.end_claim(0);
    let history = next_span(&mut shared_state, worker_limits, 0);
    assert_eq!(history, Some((7, Span { lo: i64::MIN, hi: -1 }, QueueEnd::Newest, false)));
}

#[test]
fn a_fresh_row_is_not_kept_waiting_by_history_that_lingers() {
    let mut shared_state = shared_state(1);
    let worker_limits = WorkerLimits { linger: 1000, ..HUNGRY };
    shared_state.publish(DB, &[queued(7, -5000, -1025)], 0);
    assert_eq!(
        next_span(&mut shared_state, worker_limits, 0),
        Some((7, Span { lo: -5000, hi: -1025 }, QueueEnd::Newest, false))
    );
    shared_state.enter_claim(0, None, None);
    shared_state.end_claim(0);
    shared_state.publish(DB, &[queued(7, 1024, 1024)], 500);
    assert_eq!(
        wait_until(&mut shared_state, worker_limits, 500),
        Some(1500),
        "history is no reason to send a row early"
    );
}

#[test]
fn the_process_is_started_once_and_again_when_it_never_comes() {
    let mut shared_state = shared_state(0);
    assert!(!shared_state.should_start_backfiller(DB, 0));
    shared_state.request_backfill(DB);
    assert!(!shared_state.should_start_backfiller(DB, 0), "nobody knows that the extension is there");
    shared_state.database_mut(DB).unwrap().extension = Extension::Present;
    assert!(shared_state.should_start_backfiller(DB, 0));
    assert!(shared_state.is_occupied(DB));
    assert!(!shared_state.should_start_backfiller(DB, SECOND));
    assert!(shared_state.should_start_backfiller(DB, 21 * SECOND));
    assert!(shared_state.attach_backfiller(DB, 42, 4200, 22 * SECOND));
    assert!(!shared_state.attach_backfiller(DB, 43, 4300, 22 * SECOND), "one is enough");
    assert!(shared_state.take_backfill_request(DB));
    assert!(!shared_state.take_backfill_request(DB));
    shared_state.backfiller_exited(DB, 43, BackfillerExit::Done, 23 * SECOND);
    assert!(shared_state.is_occupied(DB));
    shared_state.backfiller_exited(DB, 42, BackfillerExit::Done, 23 * SECOND);
    assert!(!shared_state.is_occupied(DB));
    assert!(!shared_state.should_start_backfiller(DB, 100 * SECOND), "there is nothing to do");
}

#[test]
fn what_is_asked_for_while_it_looks_is_not_forgotten() {
    let mut shared_state = shared_state(0);
    shared_state.database_mut(DB).unwrap().extension = Extension::Present;
    shared_state.request_backfill(DB);
    assert!(shared_state.should_start_backfiller(DB, 0) && shared_state.attach_backfiller(DB, 42, 4200, 0));
    shared_state.take_backfill_request(DB);
    assert_eq!(shared_state.request_backfill(DB), LatchSet::of(4200));
    shared_state.backfiller_exited(DB, 42, BackfillerExit::Done, 1);
    assert!(shared_state.should_start_backfiller(DB, 1));
}

#[test]
fn one_that_crashes_comes_back_more_and_more_slowly() {
    let mut shared_state = shared_state(0);
    shared_state.database_mut(DB).unwrap().extension = Extension::Present;
    shared_state.request_backfill(DB);
    let (mut now, mut pauses) = (0, Vec::new());
    for _ in 0..9 {
        assert!(
            shared_state.should_start_backfiller(DB, now)
                && shared_state.attach_backfiller(DB, 42, 4200, now)
        );
        shared_state.take_backfill_request(DB);
        shared_state.backfiller_exited(DB, 42, BackfillerExit::Failed, now);
        let at = shared_state.backfiller(DB).starts_at().unwrap();
        pauses.push((at - now) / SECOND);
        assert!(!shared_state.should_start_backfiller(DB, at - 1));
        now = at;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
}

#[test]
fn a_database_somebody_wants_is_left_and_entered_again() {
    let mut shared_state = shared_state(0);
    shared_state.database_mut(DB).unwrap().extension = Extension::Present;
    shared_state.request_backfill(DB);
    assert!(shared_state.should_start_backfiller(DB, 0) && shared_state.attach_backfiller(DB, 42, 4200, 0));
    shared_state.take_backfill_request(DB);
    let latches = shared_state.vacate_database(DB, 60 * SECOND);
    assert!(latches.iter().any(|latch| latch == 4200));
    shared_state.backfiller_exited(DB, 42, BackfillerExit::Stopped, SECOND);
    assert!(!shared_state.is_occupied(DB));
    assert!(!shared_state.should_start_backfiller(DB, SECOND));
    shared_state.readmit_workers(DB);
    assert!(shared_state.should_start_backfiller(DB, SECOND));
}

#[test]
fn it_is_woken_once_when_its_rows_have_gone_down() {
    let mut shared_state = shared_state(0);
    shared_state.database_mut(DB).unwrap().extension = Extension::Present;
    shared_state.request_backfill(DB);
    assert!(shared_state.should_start_backfiller(DB, 0) && shared_state.attach_backfiller(DB, 42, 4200, 0));
    shared_state.publish(DB, &[queued(7, -2000, -1001)], 0);
    shared_state.set_low_water(DB, 500);
    let wakes_it = |shared_state: &mut SharedState, rows| {
        shared_state.publish(DB, &[removed(7, rows)], 0).iter().any(|latch| latch == 4200)
    };
    assert!(!wakes_it(&mut shared_state, 499));
    assert!(wakes_it(&mut shared_state, 1));
    assert!(!wakes_it(&mut shared_state, 1));
}
