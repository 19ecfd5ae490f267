//! Objects that are held after their flight.

use super::*;

#[test]
fn a_row_put_off_by_a_claim_during_which_the_quarantine_ends_is_looked_at_again() {
    let mut ledger = ledger(2);
    ledger.publish(7, DB, &[queued(1, 1024, 1024)], 0);
    let Next::Claim { lane, .. } = ledger.next(0, HUNGRY, 0) else { panic!() };
    assert_eq!(ledger.claim_object(0, lane, 77, 1024), Claim::Taken);
    let span = Span { lo: 1024, hi: 1024 };
    let flight = Flight { rows: 1, bytes: 1, lane: lane as u32, fresh: true, span, started_at: 0, apart: 0 };
    let flight = ledger.claimed(0, None, Some(flight)).unwrap();
    ledger.claim_ended(0);
    // Whatever becomes of the request, it is over at 100.
    let landing = Landing { versions: &[(77, 1024)], held_until: Some(100), ..Landing::default() };
    ledger.landed(0, flight, [], landing, 1);
    // Something else of the lane lands, so that its row is looked at again: it is put off once more.
    ledger.lane_at(lane).unwrap().recall();
    assert!(next_span(&mut ledger, HUNGRY, 1).is_some());
    assert!(matches!(ledger.claim_object(0, lane, 77, 1024), Claim::HeldBy(_)));
    ledger.claimed(0, None, None);
    // The lane has put nothing off when the quarantine ends; the claim under way has.
    assert!(ledger.lane(lane).unwrap().deferred.is_empty());
    ledger.next(1, HUNGRY, 100);
    ledger.claim_ended(0);
    let lane = *ledger.lane(lane).unwrap();
    let found = lane.backlog.iter().chain(lane.fresh.iter()).any(|span| (span.lo..=span.hi).contains(&1024));
    assert!(found, "{lane:?}", lane = lane.deferred);
}
