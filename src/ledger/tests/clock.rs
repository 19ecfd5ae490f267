//! Clocks that are set back.

use super::*;

const SECOND: Micros = 1_000_000;
const HOUR: Micros = 3600 * SECOND;
/// Some time in the third millennium.
const NOW: Micros = 800_000_000 * SECOND;

#[test]
fn a_clock_set_back_makes_no_index_wait_longer() {
    let mut ledger = ledger(1);
    ledger.tick(NOW);
    ledger.publish(7, DB, &[queued(1, 1024, 1030)], NOW);
    ledger.lane_at(0).unwrap().set_back(Setback::Retry, 7, "503", (NOW - 1, NOW + 10 * SECOND), NOW);
    let now = NOW - 3 * HOUR;
    assert_eq!(wait_until(&mut ledger, HUNGRY, now), Some(now + 10 * SECOND), "as long as it was");
    assert!(!ledger.lane(0).unwrap().knew_of(now + 10 * SECOND), "the next failure counts as one");
    assert!(next_span(&mut ledger, HUNGRY, now + 10 * SECOND).is_some());
}

#[test]
fn a_clock_set_back_keeps_neither_records_nor_processes_waiting() {
    let mut ledger = ledger(1);
    ledger.tick(NOW);
    ledger.publish(7, DB, &[queued(1, 1024, 1024)], NOW);
    ledger.judge(0, 1, 1024, 3);
    ledger.hold_back(DB, 1, 1024, NOW + SECOND);
    ledger.leave(0, Exit::Failed, 0, NOW);
    ledger.counter_ended(DB, true, NOW);
    ledger.is_sweep_due(DB, 600 * SECOND, NOW);
    let now = NOW - 3 * HOUR;
    ledger.tick(now);
    let entry = *ledger.database_mut(DB).unwrap();
    assert_eq!((entry.restart_at, entry.recount_at), (now + SECOND, now + SECOND));
    assert!(!ledger.is_sweep_due(DB, 600 * SECOND, now + 599 * SECOND));
    assert!(ledger.is_sweep_due(DB, 600 * SECOND, now + 600 * SECOND));
    let (slot, launch) = ledger.enlist(DB, 0).unwrap();
    ledger.report_for_duty(slot, launch, 1, 1, now);
    while next_span(&mut ledger, HUNGRY, now).is_some() {
        ledger.claimed(0, None, None);
        ledger.claim_ended(0);
    }
    assert_eq!(wait_until(&mut ledger, HUNGRY, now), Some(now + SECOND));
}

#[test]
fn who_comes_a_little_late_has_not_set_the_clock_back() {
    let mut ledger = ledger(1);
    ledger.open_lane(DB, 1, false, 0);
    ledger.tick(NOW);
    ledger.lane_at(0).unwrap().retry_at = NOW + 10 * SECOND;
    ledger.tick(NOW - SECOND);
    ledger.tick(NOW + 100 * SECOND);
    ledger.tick(NOW + 99 * SECOND);
    assert_eq!(ledger.lane(0).unwrap().retry_at, NOW + 10 * SECOND);
}
