//! Objects held by sessions.

use super::*;

const PID: i32 = 4711;

#[test]
fn an_object_held_by_a_session_is_claimed_by_nobody_until_the_session_lets_go() {
    let mut shared_state = shared_state(1);
    let object = shared_state.hold_object(PID, DB, 1, 77).expect("a lane is opened where there is none");
    let lane = shared_state.find_lane(DB, 1).unwrap();
    shared_state.publish(DB, &[queued(1, 2048, 2048)], 0);
    assert_eq!(shared_state.hold_object(PID, DB, 1, 77), Ok(object), "once more by the same session");
    assert_eq!(shared_state.hold_object(PID + 1, DB, 1, 77), Err(NotHeld::InUse));

    let (_, span, ..) = next_span(&mut shared_state, HUNGRY, 0).unwrap();
    assert!(matches!(shared_state.claim_object(0, lane, 77, 2048), Claim::HeldBy(_)));
    shared_state.enter_claim(0, Some(span), None);
    shared_state.end_claim(0);
    while next_span(&mut shared_state, HUNGRY, 0).is_some() {
        shared_state.enter_claim(0, None, None);
        shared_state.end_claim(0);
    }
    let latches = shared_state.release_held_objects(PID, DB, &[object, object]);
    assert_eq!(latches.iter().count(), 1);
    assert!(next_span(&mut shared_state, HUNGRY, 0)
        .is_some_and(|(_, span, ..)| span.lo <= 2048 && span.hi >= 2048));
    assert_eq!(shared_state.claim_object(0, lane, 77, 2048), Claim::Granted);
    assert_eq!(shared_state.hold_object(PID, DB, 1, 77), Err(NotHeld::InUse), "a version is on its way");
    shared_state.release_held_objects(PID, DB, &[object]);
    assert_eq!(
        shared_state.claim_object(0, lane, 77, 2048),
        Claim::HeldBy(Holder::worker(0)),
        "the worker's is not let go of"
    );
}

#[test]
fn sessions_leave_half_of_the_room_to_workers() {
    let mut shared_state = shared_state(1);
    let half = (OBJECTS / 4) as i64;
    let objects: Vec<HeldObject> = (0..half)
        .map(|hash| shared_state.hold_object(PID + (hash % 4) as i32, DB, 1, hash).unwrap())
        .collect();
    assert_eq!(shared_state.hold_object(PID, DB, 1, half), Err(NotHeld::NoRoom));
    assert_eq!(shared_state.hold_object(PID, DB, 1, 0), Ok(objects[0]), "what it holds already");
    let lane = shared_state.find_lane(DB, 1).unwrap();
    for hash in half..2 * half {
        assert_eq!(shared_state.claim_object(0, lane, hash, 2048), Claim::Granted);
    }
    assert_eq!(shared_state.claim_object(0, lane, 2 * half, 2048), Claim::Full);
    shared_state.release_held_objects(PID, DB, &objects);
    assert_eq!(shared_state.hold_object(PID, DB, 1, 2 * half), Err(NotHeld::NoRoom), "workers need it all");
}
