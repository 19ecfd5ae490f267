//! Workers that start and end, and the databases that they serve.

use super::*;

#[test]
fn failing_workers_are_started_more_and_more_slowly() {
    const SECOND: Micros = 1_000_000;
    let mut shared_state = shared_state(1);
    let (mut now, mut delays) = (0, Vec::new());
    for _ in 0..8 {
        shared_state.worker_exited(0, WorkerExit::Failed, 0, now);
        let restart_at = shared_state.database_mut(DB).unwrap().restart_at;
        delays.push((restart_at - now) / SECOND);
        now = restart_at;
        let (slot, launch) = shared_state.reserve_slot(DB, 0).unwrap();
        shared_state.attach_worker(slot, launch, 1, 1, now);
    }
    assert_eq!(delays, vec![1, 2, 4, 8, 16, 32, 60, 60]);
    now += 61 * SECOND;
    shared_state.worker_exited(0, WorkerExit::Failed, 0, now);
    assert_eq!(
        shared_state.database_mut(DB).unwrap().restart_at,
        now + SECOND,
        "it had been healthy for a minute"
    );
}

#[test]
fn a_terminated_worker_is_started_again_after_a_second_each_time() {
    const SECOND: Micros = 1_000_000;
    let mut shared_state = shared_state(1);
    for now in [0, 5 * SECOND, 9 * SECOND] {
        shared_state.worker_exited(0, WorkerExit::Terminated, 0, now);
        assert_eq!(shared_state.database_mut(DB).unwrap().restart_at, now + SECOND);
        let (slot, launch) = shared_state.reserve_slot(DB, 0).unwrap();
        shared_state.attach_worker(slot, launch, 1, 1, now);
    }
}

#[test]
fn workers_that_end_together_delay_the_next_start_once() {
    let mut shared_state = shared_state(4);
    for slot in 0..4 {
        shared_state.worker_exited(slot, WorkerExit::Failed, 0, 500_000 + slot as Micros);
    }
    let entry = shared_state.database_mut(DB).unwrap();
    assert_eq!((entry.crashes, entry.restart_at), (1, 1_500_000));
}

#[test]
fn the_extension_leaves_no_trace_in_a_database_it_is_dropped_from() {
    let mut shared_state = shared_state(1);
    shared_state.publish(DB, &[queued(1, 1024, 1030)], 0);
    next_span(&mut shared_state, HUNGRY, 0).unwrap();
    fly(&mut shared_state, 0, 0, &[1024], None);
    shared_state.close_lanes(DB);
    shared_state.publish(DB, &[queued(1, 4096, 4096)], 0);
    shared_state.worker_exited(0, WorkerExit::Orderly, 0, 0);
    let lane = shared_state.lane(0).unwrap();
    assert_eq!((lane.in_flight, lane.queued), (0, 1));
}

#[test]
fn whoever_served_an_extension_that_is_no_more_leaves_and_closes_its_books_once() {
    let mut shared_state = shared_state(3);
    let look = |shared_state: &mut SharedState, worker, found| {
        shared_state.begin_extension_check(worker);
        shared_state.finish_extension_check(worker, found).0
    };
    assert_eq!(look(&mut shared_state, 0, 70), ExtensionCheck::Serve);
    assert_eq!(look(&mut shared_state, 1, 70), ExtensionCheck::Serve);
    shared_state.publish(DB, &[queued(1, 1024, 1030)], 0);
    next_span(&mut shared_state, HUNGRY, 0).unwrap();
    let flight = fly(&mut shared_state, 0, 0, &[1024], None);
    // Dropped and created again in one transaction.
    assert_eq!(look(&mut shared_state, 1, 80), ExtensionCheck::Leave);
    assert_eq!(look(&mut shared_state, 2, 80), ExtensionCheck::Serve);
    shared_state.publish(DB, &[queued(1, 1024, 1024)], 0);
    assert_eq!(look(&mut shared_state, 0, 80), ExtensionCheck::Leave, "but the new books stay");
    assert_eq!(shared_state.claim(2, 1024), Claim::Granted);
    shared_state.settled(0, flight, &[1024], 0);
    assert_eq!(
        shared_state.claim(1, 1024),
        Claim::HeldBy(Holder::worker(2)),
        "an old flight frees no new claim"
    );
    assert_eq!(shared_state.lane(0).unwrap().queued, 1);
}

#[test]
fn a_change_while_a_worker_looks_has_it_look_again() {
    let mut shared_state = shared_state(1);
    shared_state.begin_extension_check(0);
    shared_state.extension_changed(DB);
    assert_eq!(shared_state.finish_extension_check(0, 0).0, ExtensionCheck::LookAgain);
    assert_eq!(shared_state.database_mut(DB).unwrap().extension, Extension::Unknown);
}

#[test]
fn a_database_is_held_until_the_last_statement_has_ended() {
    let mut shared_state = shared_state(0);
    shared_state.vacate_database(DB, 100);
    shared_state.vacate_database(DB, 100);
    shared_state.readmit_workers(DB);
    assert!(shared_state.is_vacated(DB, 0));
    shared_state.readmit_workers(DB);
    assert!(!shared_state.is_vacated(DB, 0));
    shared_state.vacate_database(DB, 100);
    assert!(!shared_state.is_vacated(DB, 100), "a statement that never ended is forgotten");
}

#[test]
fn why_workers_cannot_work_is_known_until_one_can() {
    let mut shared_state = shared_state(1);
    assert_eq!(shared_state.trouble(DB), None);
    shared_state.note_trouble(DB, "no slot", 5);
    shared_state.note_trouble(DB, "permission denied", 7);
    assert_eq!(shared_state.trouble(DB), Some(("permission denied", 7)));
    assert_eq!(shared_state.trouble(DB + 1), None);
    shared_state.forget_trouble(DB);
    assert_eq!(shared_state.trouble(DB), None);
    shared_state.note_trouble(DB, "no slot", 9);
    shared_state.extension_changed(DB);
    assert_eq!(shared_state.trouble(DB), None, "another extension has troubles of its own");
}
