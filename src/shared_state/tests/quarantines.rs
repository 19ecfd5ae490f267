//! Objects that are held after their flight.

use super::*;

#[test]
fn a_row_put_off_by_a_claim_during_which_the_quarantine_ends_is_looked_at_again() {
    let mut shared_state = shared_state(2);
    shared_state.publish(DB, &[queued(1, 1024, 1024)], 0);
    let Next::Claim { lane, .. } = shared_state.next(0, HUNGRY, 0) else { panic!() };
    assert_eq!(shared_state.claim_object(0, lane, 77, 1024), Claim::Granted);
    let span = Span { lo: 1024, hi: 1024 };
    let flight = Flight {
        rows: 1,
        bytes: 1,
        lane: lane as u32,
        fresh: true,
        span,
        started_at: 0,
        held_back: 0,
        partial: false,
    };
    let flight = shared_state.enter_claim(0, None, Some(flight)).unwrap();
    shared_state.end_claim(0);
    // Whatever happens to the request, it is over at 100.
    let flight_result =
        FlightResult { versions: &[(77, 1024)], held_until: Some(100), ..FlightResult::default() };
    shared_state.end_flight(0, flight, [], flight_result, 1);
    // Something else of the lane is delivered, so its row is tried again, and deferred again.
    shared_state.lane_at(lane).unwrap().retry_deferred();
    assert!(next_span(&mut shared_state, HUNGRY, 1).is_some());
    assert!(matches!(shared_state.claim_object(0, lane, 77, 1024), Claim::HeldBy(_)));
    shared_state.enter_claim(0, None, None);
    // The lane has deferred nothing when the quarantine ends, but the claim in progress has.
    assert!(shared_state.lane(lane).unwrap().deferred.is_empty());
    shared_state.next(1, HUNGRY, 100);
    shared_state.end_claim(0);
    let lane = *shared_state.lane(lane).unwrap();
    let found = lane.backlog.iter().chain(lane.fresh.iter()).any(|span| (span.lo..=span.hi).contains(&1024));
    assert!(found, "{lane:?}", lane = lane.deferred);
}
