//! The tasks that show when an index has indexed what was delivered.

use super::*;

const HERE: u64 = 7;
const ELSEWHERE: u64 = 8;

/// A shared state with two workers and a flight of each.
fn flying() -> (Box<SharedState>, [usize; 2]) {
    let mut shared_state = shared_state(2);
    shared_state.set_destination(DB, HERE);
    shared_state.publish(DB, &[queued(1, 2048, 2049)], 0);
    next_span(&mut shared_state, HUNGRY, 0).unwrap();
    let lane = shared_state.find_lane(DB, 1).unwrap();
    let first = fly(&mut shared_state, 0, lane, &[2048], Some(Span { lo: 2049, hi: 2049 }));
    assert!(matches!(shared_state.next(1, HUNGRY, 0), Next::Claim { .. }));
    let second = fly(&mut shared_state, 1, lane, &[2049], None);
    (shared_state, [first, second])
}

#[test]
fn the_latest_task_is_known_before_its_batch_has_returned() {
    let (mut shared_state, [flight, _]) = flying();
    assert_eq!(shared_state.last_task(DB, 1, HERE), None);
    shared_state.note_task(0, flight, 12, HERE);
    shared_state.note_task(0, flight, 11, HERE);
    assert_eq!(shared_state.last_task(DB, 1, HERE), Some(12));
    shared_state.settled(0, flight, &[2048], 0);
    assert_eq!(shared_state.last_task(DB, 1, HERE), Some(12));
}

#[test]
fn tasks_of_another_destination_are_forgotten_and_not_noted() {
    let (mut shared_state, [first, second]) = flying();
    shared_state.note_task(0, first, 1000, HERE);
    shared_state.set_destination(DB, ELSEWHERE);
    assert_eq!(shared_state.last_task(DB, 1, ELSEWHERE), None);
    shared_state.note_task(0, first, 5, ELSEWHERE);
    // The other worker learns of it later.
    shared_state.note_task(1, second, 1001, HERE);
    shared_state.set_destination(DB, ELSEWHERE);
    assert_eq!(shared_state.last_task(DB, 1, ELSEWHERE), Some(5));
    assert_eq!(shared_state.last_task(DB, 1, HERE), None, "whoever asks there has older settings");
}

#[test]
fn another_database_goes_where_it_went() {
    let (mut shared_state, [flight, _]) = flying();
    shared_state.note_task(0, flight, 12, HERE);
    shared_state.set_destination(DB + 1, ELSEWHERE);
    assert_eq!(shared_state.last_task(DB, 1, HERE), Some(12));
}
