//! The tasks that tell when an index has what was delivered.

use super::*;

const HERE: u64 = 7;
const ELSEWHERE: u64 = 8;

/// A ledger with two workers and a flight of each.
fn flying() -> (Box<Ledger>, [usize; 2]) {
    let mut ledger = ledger(2);
    ledger.goes_to(DB, HERE);
    ledger.publish(7, DB, &[queued(1, 2048, 2049)], 0);
    next_span(&mut ledger, HUNGRY, 0).unwrap();
    let lane = ledger.find_lane(DB, 1).unwrap();
    let first = fly(&mut ledger, 0, lane, &[2048], Some(Span { lo: 2049, hi: 2049 }));
    assert!(matches!(ledger.next(1, HUNGRY, 0), Next::Claim { .. }));
    let second = fly(&mut ledger, 1, lane, &[2049], None);
    (ledger, [first, second])
}

#[test]
fn the_latest_task_is_known_before_its_batch_has_landed() {
    let (mut ledger, [flight, _]) = flying();
    assert_eq!(ledger.last_task(DB, 1), None);
    ledger.note_task(0, flight, 12, HERE);
    ledger.note_task(0, flight, 11, HERE);
    assert_eq!(ledger.last_task(DB, 1), Some(12));
    ledger.settled(0, flight, &[2048], 0);
    assert_eq!(ledger.last_task(DB, 1), Some(12));
}

#[test]
fn tasks_of_another_destination_are_forgotten_and_not_noted() {
    let (mut ledger, [first, second]) = flying();
    ledger.note_task(0, first, 1000, HERE);
    ledger.goes_to(DB, ELSEWHERE);
    assert_eq!(ledger.last_task(DB, 1), None);
    ledger.note_task(0, first, 5, ELSEWHERE);
    // The other worker learns of it later.
    ledger.note_task(1, second, 1001, HERE);
    ledger.goes_to(DB, ELSEWHERE);
    assert_eq!(ledger.last_task(DB, 1), Some(5));
}

#[test]
fn another_database_goes_where_it_went() {
    let (mut ledger, [flight, _]) = flying();
    ledger.note_task(0, flight, 12, HERE);
    ledger.goes_to(DB + 1, ELSEWHERE);
    assert_eq!(ledger.last_task(DB, 1), Some(12));
}
