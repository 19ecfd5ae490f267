//! Objects held by whoever queues that a row is not there.

use super::*;

#[test]
fn a_version_of_a_held_object_waits_until_it_is_let_go_of() {
    let mut ledger = ledger(1);
    ledger.publish(7, DB, &[queued(1, 1024, 1024)], 0);
    let hold = ledger.hold_object(DB, 1, 99, 500).unwrap();
    assert_eq!(ledger.hold_object(DB, 1, 99, 500), None, "one holds it");
    next_span(&mut ledger, HUNGRY, 0).unwrap();
    assert!(matches!(ledger.claim_object(0, 0, 99, 1024), Claim::HeldBy(_)));
    ledger.claimed(0, None, None);
    ledger.claim_ended(0);
    assert_eq!(next_span(&mut ledger, HUNGRY, 1), None, "it waits");
    assert_eq!(ledger.let_go_of_object(hold).iter().count(), 1, "somebody is to look");
    let (_, span, ..) = next_span(&mut ledger, HUNGRY, 1).unwrap();
    assert!((span.lo..=span.hi).contains(&1024));
    assert_eq!(ledger.claim_object(0, 0, 99, 1024), Claim::Taken);
    assert_eq!(ledger.hold_object(DB, 1, 99, 500), None, "a worker has it");
}

#[test]
fn a_hold_whose_owner_is_gone_ends_by_itself() {
    let mut ledger = ledger(1);
    ledger.publish(7, DB, &[queued(1, 1024, 1024)], 0);
    let hold = ledger.hold_object(DB, 1, 99, 500).unwrap();
    next_span(&mut ledger, HUNGRY, 0).unwrap();
    ledger.claim_object(0, 0, 99, 1024);
    ledger.claimed(0, None, None);
    ledger.claim_ended(0);
    assert_eq!(next_span(&mut ledger, HUNGRY, 499), None);
    assert!(next_span(&mut ledger, HUNGRY, 500).is_some());
    // Letting go of what another has by now takes nothing from them.
    assert_eq!(ledger.claim_object(0, 0, 99, 1024), Claim::Taken);
    ledger.let_go_of_object(hold);
    assert_eq!(ledger.hold_object(DB, 1, 99, 900), None);
}

#[test]
fn an_index_without_a_lane_holds_nothing() {
    assert_eq!(ledger(1).hold_object(DB, 1, 99, 500), None);
}

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
