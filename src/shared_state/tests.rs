//! Shared state without a server: claims, turns, failures and counts.

mod announcements;
mod backfill;
mod capacity;
mod clock;
mod close_lanes;
mod counts;
mod crash_suspects;
mod failures;
mod filled_batches;
mod held_objects;
mod id_reserve;
mod index_settings;
mod indexing_tasks;
mod partial_batches;
mod quarantines;
mod repairs;
mod suspect_search;
mod suspect_world;
mod unattributed_rejections;
mod worker_slots;

use std::collections::HashMap;

use super::*;
use crate::claims::{Claim, Holder};
use crate::id_ranges::IdRanges;
use crate::id_ranges::Span;

const DB: u32 = 5;

/// The shared state of a server that has just started, with this many workers.
fn shared_state(workers: usize) -> Box<SharedState> {
    let mut shared_state = SharedState::boxed();
    for number in 0..workers {
        let (slot, launch) = shared_state.reserve_slot(DB, number as u32).unwrap();
        assert!(shared_state.attach_worker(slot, launch, 100 + number as i32, 1000 + number as u64, 0));
    }
    shared_state
}

fn queued(index_id: i32, lo: i64, hi: i64) -> CommitDelta {
    let mut spans = IdRanges::new();
    spans.add(lo, hi);
    CommitDelta { index_id, queued: hi - lo + 1, removed: 0, dead: 0, repairs: 0, spans }
}

const HUNGRY: WorkerLimits = WorkerLimits {
    slots: 4,
    batch_rows: 1000,
    batch_bytes: 8 << 20,
    linger: 0,
    quarantine: 30,
    tail_share: 0,
};

fn next_span(
    shared_state: &mut SharedState,
    worker_limits: WorkerLimits,
    now: Micros,
) -> Option<(i32, Span, QueueEnd, bool)> {
    match shared_state.next(0, worker_limits, now) {
        Next::Claim { index_id, claimable, .. } => {
            Some((index_id, claimable.span, claimable.end, claimable.fresh))
        }
        Next::Wait { .. } => None,
    }
}

fn wait_until(shared_state: &mut SharedState, worker_limits: WorkerLimits, now: Micros) -> Option<Micros> {
    match shared_state.next(0, worker_limits, now) {
        Next::Wait { until, .. } => until,
        claim => panic!("{claim:?}"),
    }
}

/// Pretends that the worker claimed the rows `ids` of the span that it was given.
fn fly(shared_state: &mut SharedState, worker: usize, lane: usize, ids: &[i64], rest: Option<Span>) -> usize {
    for id in ids {
        assert_eq!(shared_state.claim(worker, *id), Claim::Granted);
    }
    let span = Span { lo: *ids.iter().min().unwrap(), hi: *ids.iter().max().unwrap() };
    let flight = Flight {
        rows: ids.len() as i64,
        bytes: 1,
        lane: lane as u32,
        fresh: false,
        span,
        started_at: 0,
        held_back: 0,
        partial: false,
    };
    let place = shared_state.enter_claim(worker, rest, Some(flight)).unwrap();
    shared_state.end_claim(worker);
    place
}

#[test]
fn what_a_commit_publishes_is_claimed_next_and_wakes_a_sleeper() {
    let mut shared_state = shared_state(1);
    assert_eq!(next_span(&mut shared_state, HUNGRY, 0), None);
    let latches = shared_state.publish(DB, &[queued(1, 2048, 2050)], 0);
    assert_eq!(latches.iter().collect::<Vec<_>>(), vec![1000]);
    let (index, span, end, fresh) = next_span(&mut shared_state, HUNGRY, 0).unwrap();
    assert_eq!((index, end, fresh), (1, QueueEnd::Newest, true));
    assert!(span.lo == 2048 && span.hi >= 2050 && span.hi < 3072);
    assert_eq!(next_span(&mut shared_state, HUNGRY, 0), None);
}

/// Pretends that a worker sends batches of the backlog.
fn load(shared_state: &mut SharedState, worker: usize, batches: usize) {
    let span = Span { lo: 0, hi: 0 };
    let flight = Flight {
        rows: 1,
        bytes: 1,
        lane: 0,
        fresh: false,
        span,
        started_at: 0,
        held_back: 0,
        partial: false,
    };
    for _ in 0..batches {
        shared_state.workers[worker].add_flight(flight).unwrap();
    }
}

#[test]
fn a_stream_of_fresh_rows_does_not_starve_the_tail() {
    let mut shared_state = shared_state(1);
    shared_state.open_lane(DB, 1, false, 0);
    let worker_limits = WorkerLimits { tail_share: 10, ..HUNGRY };
    let mut ends = Vec::new();
    for block in 1..=100 {
        shared_state.publish(DB, &[queued(1, block * 1024, block * 1024)], 0);
        let (_, span, end, fresh) = next_span(&mut shared_state, worker_limits, 0).unwrap();
        assert!(fresh || end == QueueEnd::Oldest);
        ends.push(end);
        shared_state.enter_claim(0, (!fresh).then_some(span), None);
        shared_state.end_claim(0);
    }
    assert_eq!(ends.iter().filter(|end| **end == QueueEnd::Oldest).count(), 10);
}

#[test]
fn a_fresh_row_goes_before_the_backlog_and_has_a_slot_of_its_own() {
    let mut shared_state = shared_state(1);
    shared_state.open_lane(DB, 1, false, 0);
    load(&mut shared_state, 0, 3);
    assert_eq!(next_span(&mut shared_state, HUNGRY, 0), None, "the last slot is not for the backlog");
    shared_state.publish(DB, &[queued(1, 4096, 4096)], 0);
    let (_, span, _, fresh) = next_span(&mut shared_state, HUNGRY, 0).unwrap();
    assert!(fresh && span.lo == 4096);
    shared_state.workers[0].remove_flight(0);
    let (_, span, _, fresh) = next_span(&mut shared_state, HUNGRY, 0).unwrap();
    assert!(!fresh && span == Span { lo: i64::MIN, hi: i64::MAX });
}

#[test]
fn the_tail_gets_its_share_of_the_backlog() {
    let mut shared_state = shared_state(1);
    shared_state.open_lane(DB, 1, false, 0);
    let worker_limits = WorkerLimits { tail_share: 10, ..HUNGRY };
    let mut ends = Vec::new();
    for _ in 0..100 {
        let (_, span, end, _) = next_span(&mut shared_state, worker_limits, 0).unwrap();
        ends.push(end);
        shared_state.enter_claim(0, Some(span), None);
        shared_state.end_claim(0);
    }
    assert_eq!(ends.iter().filter(|end| **end == QueueEnd::Oldest).count(), 10);
}

#[test]
fn linger_waits_for_more_rows_but_not_for_a_full_batch() {
    let mut shared_state = shared_state(1);
    let patient = WorkerLimits { linger: 500, batch_rows: 10, ..HUNGRY };
    shared_state.publish(DB, &[queued(1, 1024, 1026)], 100);
    assert_eq!(wait_until(&mut shared_state, patient, 100), Some(600));
    shared_state.publish(DB, &[queued(1, 2048, 2060)], 200);
    assert!(matches!(shared_state.next(0, patient, 200), Next::Claim { .. }));
}

#[test]
fn a_row_held_by_one_worker_is_not_given_to_another() {
    let mut shared_state = shared_state(2);
    shared_state.publish(DB, &[queued(1, 1024, 1030)], 0);
    assert!(next_span(&mut shared_state, HUNGRY, 0).is_some());
    let flight = fly(&mut shared_state, 0, 0, &[1024, 1025], None);
    assert_eq!(shared_state.claim(1, 1024), Claim::HeldBy(Holder::worker(0)));
    shared_state.settled(0, flight, &[1024, 1025], 9);
    assert_eq!(shared_state.claim(1, 1024), Claim::Granted);
    let lane = shared_state.lane(0).unwrap();
    assert_eq!((lane.in_flight, lane.delivered_total, lane.last_delivered_at), (0, 2, 9));
}

#[test]
fn a_worker_that_dies_gives_everything_back() {
    let mut shared_state = shared_state(2);
    shared_state.publish(DB, &[queued(1, 1024, 1033)], 0);
    assert!(next_span(&mut shared_state, HUNGRY, 0).is_some());
    fly(&mut shared_state, 0, 0, &[1030, 1031, 1032, 1033], Some(Span { lo: 1024, hi: 1029 }));
    assert!(next_span(&mut shared_state, HUNGRY, 0).is_some(), "it is reading the rest when it dies");
    shared_state.worker_exited(0, WorkerExit::Failed, 0, 0);
    let lane = shared_state.lane(0).unwrap();
    assert_eq!(lane.in_flight, 0);
    assert_eq!(lane.backlog.iter().collect::<Vec<_>>(), vec![Span { lo: 1024, hi: 1033 }]);
    assert_eq!(shared_state.claim(1, 1031), Claim::Granted);
}

#[test]
fn after_a_failure_one_batch_tries_first() {
    let mut shared_state = shared_state(1);
    shared_state.publish(DB, &[queued(1, 1024, 1030)], 0);
    next_span(&mut shared_state, HUNGRY, 0).unwrap();
    let flight = fly(&mut shared_state, 0, 0, &[1030], Some(Span { lo: 1024, hi: 1029 }));
    shared_state.released(0, flight, [1030]);
    shared_state.lane_at(0).unwrap().back_off(LaneFailure::Retry, 1, "503", (5, 1000), 10);
    assert_eq!(wait_until(&mut shared_state, HUNGRY, 999), Some(1000));
    next_span(&mut shared_state, HUNGRY, 1000).unwrap();
    let flight = fly(&mut shared_state, 0, 0, &[1030], Some(Span { lo: 1024, hi: 1029 }));
    assert_eq!(wait_until(&mut shared_state, HUNGRY, 1000), None, "the rest waits for the first answer");
    shared_state.settled(0, flight, &[1030], 2000);
    assert!(next_span(&mut shared_state, HUNGRY, 2000).is_some());
}

#[test]
fn a_paused_index_keeps_nobody_else_waiting() {
    let mut shared_state = shared_state(1);
    shared_state.open_lane(DB, 1, true, 0);
    shared_state.publish(DB, &[queued(1, 1024, 1024), queued(2, 1025, 1025)], 0);
    assert_eq!(next_span(&mut shared_state, HUNGRY, 0).unwrap().0, 2);
    assert_eq!(next_span(&mut shared_state, HUNGRY, 0), None);
}

#[test]
fn lanes_take_turns() {
    let mut shared_state = shared_state(1);
    for index in 1..=3 {
        shared_state.open_lane(DB, index, false, 0);
    }
    let mut served = Vec::new();
    for _ in 0..6 {
        let (index, span, _, _) = next_span(&mut shared_state, HUNGRY, 0).unwrap();
        served.push(index);
        shared_state.enter_claim(0, Some(span), None);
        shared_state.end_claim(0);
    }
    assert_eq!(served, vec![1, 2, 3, 1, 2, 3]);
}

#[test]
fn what_a_claim_leaves_over_is_nobodys_until_its_transaction_is_over() {
    let mut shared_state = shared_state(2);
    shared_state.publish(DB, &[queued(1, 1024, 1030)], 0);
    next_span(&mut shared_state, HUNGRY, 0).unwrap();
    assert_eq!(shared_state.claim(0, 1030), Claim::Granted);
    let span = Span { lo: 1030, hi: 1030 };
    let flight =
        Flight { rows: 1, bytes: 1, lane: 0, fresh: true, span, started_at: 0, held_back: 0, partial: false };
    shared_state.enter_claim(0, Some(Span { lo: 1024, hi: 1029 }), Some(flight)).unwrap();
    // The other rows may still be locked, and would be skipped.
    assert!(matches!(shared_state.next(1, HUNGRY, 0), Next::Wait { .. }));
    shared_state.end_claim(0);
    let Next::Claim { claimable, .. } = shared_state.next(1, HUNGRY, 0) else { panic!("nothing to claim") };
    assert_eq!((claimable.span.lo, claimable.span.hi), (1024, 1029));
    // If the worker ends before that, both rows wait again.
    assert_eq!(shared_state.claim(1, 1029), Claim::Granted);
    let flight = Flight { span: Span { lo: 1029, hi: 1029 }, ..flight };
    shared_state.enter_claim(1, Some(Span { lo: 1024, hi: 1028 }), Some(flight)).unwrap();
    shared_state.worker_exited(1, WorkerExit::Failed, 0, 0);
    let lane = shared_state.lane(0).unwrap();
    assert_eq!(lane.backlog.iter().map(|span| (span.lo, span.hi)).collect::<Vec<_>>(), [(1024, 1029)]);
}
