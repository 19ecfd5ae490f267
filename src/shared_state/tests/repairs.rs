//! Waiting repairs are counted, and a process makes them.

use super::*;

#[test]
fn repairs_are_counted_and_have_somebody_look() {
    let mut shared_state = shared_state(1);
    shared_state.launcher_latch = 900;
    let change = |repairs| CommitDelta { index_id: 1, repairs, ..CommitDelta::EMPTY };
    let latches = shared_state.publish(DB, &[change(3)], 0);
    assert_eq!(latches.iter().collect::<Vec<_>>(), [900], "there is no process yet");
    assert!(shared_state.backfiller(DB).starts_at().is_some());
    assert!(shared_state.take_repair_request(DB) && !shared_state.take_repair_request(DB));
    shared_state.publish(DB, &[change(-2)], 0);
    assert!(!shared_state.take_repair_request(DB), "what has been made asks for nothing");
    let lane = shared_state.lane_at(0).unwrap();
    assert_eq!((lane.repairs, lane.repairs_total), (1, 3));
    // Until they are counted, the counter means nothing.
    shared_state.database_mut(DB).unwrap().recount = false;
    shared_state.end_repairs(DB);
    assert!(!shared_state.database_mut(DB).unwrap().recount);
    shared_state.lane_at(0).unwrap().counted = true;
    shared_state.end_repairs(DB);
    assert!(shared_state.database_mut(DB).unwrap().recount, "somebody has deleted one by hand");
}
