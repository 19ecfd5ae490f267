//! Workers that come and go, and the databases they serve.

use super::*;

#[test]
fn failing_workers_are_started_more_and_more_slowly() {
    const SECOND: Micros = 1_000_000;
    let mut ledger = ledger(1);
    let (mut now, mut delays) = (0, Vec::new());
    for _ in 0..8 {
        ledger.leave(0, Exit::Failed, 0, now);
        let restart_at = ledger.database_mut(DB).unwrap().restart_at;
        delays.push((restart_at - now) / SECOND);
        now = restart_at;
        let (slot, launch) = ledger.enlist(DB, 0).unwrap();
        ledger.report_for_duty(slot, launch, 1, 1, now);
    }
    assert_eq!(delays, vec![1, 2, 4, 8, 16, 32, 60, 60]);
    now += 61 * SECOND;
    ledger.leave(0, Exit::Failed, 0, now);
    assert_eq!(ledger.database_mut(DB).unwrap().restart_at, now + SECOND, "it had been healthy for a minute");
}

#[test]
fn a_terminated_worker_is_started_again_after_a_second_each_time() {
    const SECOND: Micros = 1_000_000;
    let mut ledger = ledger(1);
    for now in [0, 5 * SECOND, 9 * SECOND] {
        ledger.leave(0, Exit::Terminated, 0, now);
        assert_eq!(ledger.database_mut(DB).unwrap().restart_at, now + SECOND);
        let (slot, launch) = ledger.enlist(DB, 0).unwrap();
        ledger.report_for_duty(slot, launch, 1, 1, now);
    }
}

#[test]
fn workers_that_end_together_delay_the_next_start_once() {
    let mut ledger = ledger(4);
    for slot in 0..4 {
        ledger.leave(slot, Exit::Failed, 0, 500_000 + slot as Micros);
    }
    let entry = ledger.database_mut(DB).unwrap();
    assert_eq!((entry.crashes, entry.restart_at), (1, 1_500_000));
}

#[test]
fn the_extension_leaves_no_trace_in_a_database_it_is_dropped_from() {
    let mut ledger = ledger(1);
    ledger.publish(7, DB, &[queued(1, 1024, 1030)], 0);
    next_span(&mut ledger, HUNGRY, 0).unwrap();
    fly(&mut ledger, 0, 0, &[1024], None);
    ledger.close_lanes(DB);
    ledger.publish(8, DB, &[queued(1, 4096, 4096)], 0);
    ledger.leave(0, Exit::Orderly, 0, 0);
    let lane = ledger.lane(0).unwrap();
    assert_eq!((lane.in_flight, lane.queued), (0, 1));
}

#[test]
fn whoever_served_an_extension_that_is_no_more_leaves_and_closes_its_books_once() {
    let mut ledger = ledger(3);
    let look = |ledger: &mut Ledger, worker, found| {
        ledger.look(worker);
        ledger.note_extension(worker, found).0
    };
    assert_eq!(look(&mut ledger, 0, 70), Duty::Serve);
    assert_eq!(look(&mut ledger, 1, 70), Duty::Serve);
    ledger.publish(7, DB, &[queued(1, 1024, 1030)], 0);
    next_span(&mut ledger, HUNGRY, 0).unwrap();
    let flight = fly(&mut ledger, 0, 0, &[1024], None);
    // Dropped and made anew in one transaction.
    assert_eq!(look(&mut ledger, 1, 80), Duty::Leave);
    assert_eq!(look(&mut ledger, 2, 80), Duty::Serve);
    ledger.publish(8, DB, &[queued(1, 1024, 1024)], 0);
    assert_eq!(look(&mut ledger, 0, 80), Duty::Leave, "but the new books stay");
    assert_eq!(ledger.claim(2, 1024), Claim::Taken);
    ledger.settled(0, flight, &[1024], 0);
    assert_eq!(ledger.claim(1, 1024), Claim::HeldBy(3), "an old flight frees no new claim");
    assert_eq!(ledger.lane(0).unwrap().queued, 1);
}

#[test]
fn a_change_while_a_worker_looks_has_it_look_again() {
    let mut ledger = ledger(1);
    ledger.look(0);
    ledger.extension_changed(DB);
    assert_eq!(ledger.note_extension(0, 0).0, Duty::LookAgain);
    assert_eq!(ledger.database_mut(DB).unwrap().extension, Extension::Unknown);
}

#[test]
fn a_database_is_held_until_the_last_statement_has_ended() {
    let mut ledger = ledger(0);
    ledger.hold(DB, 100);
    ledger.hold(DB, 100);
    ledger.unhold(DB);
    assert!(ledger.is_held(DB, 0));
    ledger.unhold(DB);
    assert!(!ledger.is_held(DB, 0));
    ledger.hold(DB, 100);
    assert!(!ledger.is_held(DB, 100), "a statement that never ended is forgotten");
}

#[test]
fn why_workers_cannot_work_is_known_until_one_can() {
    let mut ledger = ledger(1);
    assert_eq!(ledger.trouble(DB), None);
    ledger.note_trouble(DB, "no slot", 5);
    ledger.note_trouble(DB, "permission denied", 7);
    assert_eq!(ledger.trouble(DB), Some(("permission denied", 7)));
    assert_eq!(ledger.trouble(DB + 1), None);
    ledger.forget_trouble(DB);
    assert_eq!(ledger.trouble(DB), None);
    ledger.note_trouble(DB, "no slot", 9);
    ledger.extension_changed(DB);
    assert_eq!(ledger.trouble(DB), None, "another extension has troubles of its own");
}
