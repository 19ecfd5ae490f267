//! Repairs that wait: counted, and looked at by somebody.

use super::*;

#[test]
fn repairs_are_counted_and_have_somebody_look() {
    let mut ledger = ledger(1);
    ledger.launcher_latch = 900;
    let change = |repairs| Change { index_id: 1, repairs, ..Change::EMPTY };
    let wakes = ledger.publish(7, DB, &[change(3)], 0);
    assert_eq!(wakes.iter().collect::<Vec<_>>(), [900], "there is no process yet");
    assert!(ledger.backfiller(DB).starts_at().is_some());
    assert!(ledger.repairer_looks(DB) && !ledger.repairer_looks(DB));
    ledger.publish(8, DB, &[change(-2)], 0);
    assert!(!ledger.repairer_looks(DB), "what has been made asks for nothing");
    let lane = ledger.lane_at(0).unwrap();
    assert_eq!((lane.repairs, lane.repairs_total), (1, 3));
    // Until they have been counted, the counter says nothing.
    ledger.database_mut(DB).unwrap().recount = false;
    ledger.repairs_are_done(DB);
    assert!(!ledger.database_mut(DB).unwrap().recount);
    ledger.lane_at(0).unwrap().counted = true;
    ledger.repairs_are_done(DB);
    assert!(ledger.database_mut(DB).unwrap().recount, "somebody has deleted one by hand");
}
