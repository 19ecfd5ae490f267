//! Batches of fresh rows that the backlog fills.

use super::partial_batches::{look, publish, take, with_a_batch_under_way, NOW};
use super::*;

/// A lane whose backlog is `lo` to `hi`, and a fresh row above it.
fn with_a_backlog(lo: i64, hi: i64) -> Box<SharedState> {
    let mut shared_state = shared_state(2);
    publish(&mut shared_state, 1, 1 << 30, 1, NOW);
    let lane = shared_state.lane_at(0).unwrap();
    lane.backlog = IdRanges::new();
    lane.backlog.add(lo, hi);
    shared_state
}

#[test]
fn while_there_is_a_backlog_fresh_rows_do_not_wait_for_a_batch_to_return() {
    let (mut shared_state, _) = with_a_batch_under_way();
    shared_state.lane_at(0).unwrap().backlog.add(1, 1000);
    assert_ne!(publish(&mut shared_state, 1, 1 << 30, 1, NOW + 10), [0; 0], "somebody is woken");
    let Next::Claim { claimable, .. } = shared_state.next(1, HUNGRY, NOW + 20) else { panic!("they wait") };
    assert!(claimable.fresh && !claimable.partial, "{claimable:?}");
}

#[test]
fn the_backlog_fills_the_batch_of_fresh_rows() {
    let mut shared_state = with_a_backlog(1, 1000);
    assert_eq!(look(&mut shared_state, 0, NOW), Ok(()));
    assert_eq!(shared_state.next_to_fill(0), Some(Span { lo: 1, hi: 1000 }));
    assert_eq!(shared_state.next_to_fill(0), None);
    // What was not read waits again, and so would all of it if the worker died.
    shared_state.enter_claim(0, Some(Span { lo: 1, hi: 500 }), None);
    shared_state.end_claim(0);
    assert_eq!(shared_state.lane(0).unwrap().backlog.bounds(), Some(Span { lo: 1, hi: 500 }));
}

#[test]
fn only_what_is_older_than_the_fresh_rows_fills_their_batch() {
    let mut shared_state = with_a_backlog(i64::MIN, i64::MAX);
    assert_eq!(look(&mut shared_state, 0, NOW), Ok(()));
    assert_eq!(shared_state.next_to_fill(0), Some(Span { lo: i64::MIN, hi: (1 << 30) - 1 }));
    let newer = shared_state.lane(0).unwrap().backlog.bounds();
    assert_eq!(newer, Some(Span { lo: 1 << 30, hi: i64::MAX }));

    let mut shared_state = with_a_backlog(1 << 40, 1 << 41);
    assert_eq!(look(&mut shared_state, 0, NOW), Ok(()));
    assert_eq!(shared_state.next_to_fill(0), None, "rows are read from the newest to the oldest");
}

#[test]
fn a_batch_of_the_backlog_is_not_filled() {
    let mut shared_state = with_a_backlog(1, 1000);
    take(&mut shared_state, 0, 1, false, NOW);
    assert_eq!(look(&mut shared_state, 1, NOW), Ok(()));
    assert_eq!(shared_state.next_to_fill(1), None);
}

#[test]
fn rows_far_apart_wait_again_without_what_lies_between() {
    let mut shared_state = shared_state(1);
    for lo in [1024, 1 << 30] {
        publish(&mut shared_state, 1, lo, 1, NOW);
    }
    assert_eq!(look(&mut shared_state, 0, NOW), Ok(()));
    while shared_state.next_to_fill(0).is_some() {}
    let ids = [1024, 1 << 30];
    let flight = Flight {
        rows: 2,
        bytes: 2,
        lane: 0,
        fresh: true,
        span: Span { lo: ids[0], hi: ids[1] },
        started_at: NOW,
        held_back: 0,
        partial: true,
    };
    let flight = shared_state.enter_claim(0, None, Some(flight)).unwrap();
    shared_state.end_claim(0);
    shared_state.lane_at(0).unwrap().backlog = IdRanges::new();
    shared_state.released(0, flight, ids);
    let spans: Vec<Span> = shared_state.lane(0).unwrap().backlog.iter().collect();
    assert_eq!(spans, ids.map(|id| Span { lo: id, hi: id }));
}

#[test]
fn what_may_be_at_fault_fills_no_batch() {
    let mut in_trouble = with_a_backlog(1, 1000);
    in_trouble.lane_at(0).unwrap().failures = 1;
    let mut rejecting = with_a_backlog(1, 1000);
    let rejections = &mut rejecting.lane_at(0).unwrap().unattributed_rejections;
    while rejections.may_dead_letter(120, NOW) {}
    for mut shared_state in [in_trouble, rejecting] {
        assert_eq!(look(&mut shared_state, 0, NOW), Ok(()));
        assert_eq!(shared_state.next_to_fill(0), None);
    }
}
