//! Rows that may have caused a crash: they are tried alone, in smaller batches, and do not affect others.

use super::*;
use crate::flight_recorder::FlightRecord;

const SECOND: Micros = 1_000_000;

fn record(lo: i64, hi: i64, rows: i64) -> FlightRecord {
    let span = Span { lo, hi };
    FlightRecord { database: DB, index_id: 1, span, rows, has_versions: false, crashes: 0 }
}

/// The shared state after a crash, with a lane whose whole range must be read.
fn after_crash(workers: usize, records: &[FlightRecord]) -> Box<SharedState> {
    let mut shared_state = shared_state(workers);
    records.iter().for_each(|record| shared_state.suspect_crash(*record));
    shared_state.open_lane(DB, 1, false, 0);
    shared_state
}

/// The spans that are claimed normally, read to their ends.
fn plain(shared_state: &mut SharedState, worker: usize, now: Micros) -> Vec<(i64, i64)> {
    let mut spans = Vec::new();
    while let Next::Claim { claimable, crash_retry: None, .. } = shared_state.next(worker, HUNGRY, now) {
        spans.push((claimable.span.lo, claimable.span.hi));
        shared_state.enter_claim(worker, None, None);
        shared_state.end_claim(worker);
        assert!(spans.len() < 100);
    }
    spans
}

/// What is tried next: how many rows of which span.
fn crash_retry(shared_state: &mut SharedState, worker: usize, now: Micros) -> Option<(i64, Span)> {
    match shared_state.next(worker, HUNGRY, now) {
        Next::Claim { claimable, crash_retry, .. } => Some((crash_retry?.rows, claimable.span)),
        Next::Wait { .. } => None,
    }
}

/// The newest ids of the current trial are claimed.
fn fly_trial(
    shared_state: &mut SharedState,
    worker: usize,
    ids: std::ops::RangeInclusive<i64>,
    lo: i64,
) -> usize {
    let rest = Span { lo, hi: *ids.start() - 1 };
    fly(shared_state, worker, 0, &ids.collect::<Vec<_>>(), (rest.lo <= rest.hi).then_some(rest))
}

#[test]
fn suspects_are_left_out_of_all_other_claims() {
    let mut shared_state = after_crash(1, &[record(100, 199, 100), record(300, 399, 100)]);
    assert_eq!(plain(&mut shared_state, 0, 1), [(400, i64::MAX), (200, 299), (i64::MIN, 99)]);
    shared_state.publish(DB, &[queued(1, 150, 160)], 1);
    assert!(plain(&mut shared_state, 0, 1).iter().all(|(lo, hi)| *lo > 199 || *hi < 100));
}

#[test]
fn a_clock_set_back_keeps_no_suspects_waiting() {
    let mut shared_state = after_crash(1, &[record(100, 115, 16)]);
    let (before, now) = (100_000 * SECOND, 50_000 * SECOND);
    shared_state.tick(before);
    assert_eq!(wait_for_trial(&mut shared_state, before), Some(before + SECOND));
    assert_eq!(wait_for_trial(&mut shared_state, now), Some(now + SECOND));
}

#[test]
fn suspects_are_tried_alone_in_parts_after_a_pause_and_then_are_none() {
    let mut shared_state = after_crash(1, &[record(100, 115, 16)]);
    assert_eq!(wait_for_trial(&mut shared_state, 0), Some(SECOND));
    assert_eq!(crash_retry(&mut shared_state, 0, SECOND), Some((2, Span { lo: 100, hi: 115 })));
    let mut place = fly_trial(&mut shared_state, 0, 114..=115, 100);
    shared_state.publish(DB, &[queued(1, 5000, 5001)], SECOND);
    for hi in (101..=113).rev().step_by(2) {
        assert_eq!(
            crash_retry(&mut shared_state, 0, SECOND),
            None,
            "one of them is on its way, and nothing else is claimed"
        );
        shared_state.settled(0, place, &[hi + 1, hi + 2], SECOND);
        assert_eq!(crash_retry(&mut shared_state, 0, SECOND), Some((2, Span { lo: 100, hi })));
        place = fly_trial(&mut shared_state, 0, hi - 1..=hi, 100);
    }
    shared_state.settled(0, place, &[100, 101], SECOND);
    assert!(plain(&mut shared_state, 0, SECOND).iter().any(|(lo, hi)| (*lo..=*hi).contains(&5000)));
    shared_state.publish(DB, &[queued(1, 100, 100)], SECOND);
    assert!(plain(&mut shared_state, 0, SECOND).iter().any(|(lo, hi)| (*lo..=*hi).contains(&100)));
}

fn wait_for_trial(shared_state: &mut SharedState, now: Micros) -> Option<Micros> {
    plain(shared_state, 0, now);
    wait_until(shared_state, HUNGRY, now)
}

#[test]
fn a_worker_waits_a_while_for_what_it_has_on_its_way_and_others_go_on() {
    let mut shared_state = after_crash(2, &[record(100, 115, 16)]);
    plain(&mut shared_state, 0, 0);
    shared_state.publish(DB, &[queued(1, 5000, 5009)], 0);
    let Next::Claim { lane, claimable, .. } = shared_state.next(0, HUNGRY, 0) else { panic!() };
    let place = fly(&mut shared_state, 0, lane, &[5009], Some(Span { hi: 5008, ..claimable.span }));
    assert_eq!(wait_until(&mut shared_state, HUNGRY, SECOND), Some(11 * SECOND), "it has taken them");
    assert_eq!(plain(&mut shared_state, 1, SECOND).len(), 1, "the other one claims the rest");
    // What it waits for hangs.
    assert_eq!(crash_retry(&mut shared_state, 0, 11 * SECOND), None);
    assert_eq!(crash_retry(&mut shared_state, 1, 20 * SECOND), None, "not yet again");
    assert_eq!(crash_retry(&mut shared_state, 1, 21 * SECOND), Some((2, Span { lo: 100, hi: 115 })));
    shared_state.settled(0, place, &[5009], 21 * SECOND);
    assert_eq!(crash_retry(&mut shared_state, 0, 21 * SECOND), None, "one worker at a time");
}

#[test]
fn a_worker_that_ends_leaves_its_suspects_to_another() {
    let mut shared_state = after_crash(2, &[record(100, 115, 16)]);
    plain(&mut shared_state, 0, 0);
    assert!(crash_retry(&mut shared_state, 0, SECOND).is_some());
    shared_state.release_worker(0, 0);
    assert_eq!(crash_retry(&mut shared_state, 1, SECOND), Some((2, Span { lo: 100, hi: 115 })));
}

#[test]
fn suspects_of_an_index_that_is_paused_or_gone_keep_nobody_from_others() {
    let mut shared_state = after_crash(1, &[record(100, 115, 16)]);
    shared_state.lane_at(0).unwrap().paused = true;
    shared_state.open_lane(DB, 2, false, 0);
    assert_eq!(plain(&mut shared_state, 0, 0).len(), 1);
    assert_eq!(crash_retry(&mut shared_state, 0, SECOND), None);
    shared_state.publish(DB, &[queued(2, 5000, 5009)], SECOND);
    assert_eq!(plain(&mut shared_state, 0, SECOND).len(), 1);
    shared_state.lane_at(0).unwrap().paused = false;
    assert!(crash_retry(&mut shared_state, 0, SECOND).is_some());
}

#[test]
fn more_rows_than_were_on_their_way_are_tried_in_batches_that_grow() {
    let mut shared_state = after_crash(1, &[record(1, 1_000_000, 16)]);
    plain(&mut shared_state, 0, 0);
    let (mut hi, mut batches) = (1_000_000, 0);
    while let Some((rows, span)) = crash_retry(&mut shared_state, 0, SECOND) {
        assert_eq!(span, Span { lo: 1, hi });
        let lo = (hi - rows + 1).max(1);
        let span = Span { lo, hi };
        let flight = Flight {
            rows,
            bytes: 1,
            lane: 0,
            fresh: false,
            span,
            started_at: 0,
            held_back: 0,
            partial: false,
        };
        let rest = (lo > 1).then_some(Span { lo: 1, hi: lo - 1 });
        let place = shared_state.enter_claim(0, rest, Some(flight)).unwrap();
        shared_state.end_claim(0);
        shared_state.settled(0, place, &[], SECOND);
        (hi, batches) = (lo - 1, batches + 1);
    }
    assert!(hi == 0 && batches < 1300, "{batches} batches, down to {hi}");
}

#[test]
fn a_row_that_was_alone_in_crashes_waits_longer_each_time_it_is_to_be_buried() {
    let due = |crashes| {
        let mut shared_state = after_crash(1, &[FlightRecord { crashes, ..record(100, 100, 1) }]);
        wait_for_trial(&mut shared_state, 0)
    };
    let dues: Vec<_> =
        [0, 2, 3, 4, 6, 12, u32::MAX].into_iter().map(|crashes| due(crashes).unwrap() / SECOND).collect();
    assert_eq!(dues, [1, 1, 1, 4, 64, 3600, 3600]);
}

#[test]
fn suspects_of_an_index_whose_lane_is_closed_are_forgotten() {
    let mut shared_state =
        after_crash(1, &[record(100, 115, 16), FlightRecord { index_id: 2, ..record(100, 115, 16) }]);
    shared_state.open_lane(DB, 2, false, 0);
    plain(&mut shared_state, 0, 0);
    shared_state.close_lanes_of_missing(DB, &[1, 2], &[2]);
    // Another index may get the same number, for instance a restored one.
    shared_state.open_lane(DB, 1, false, 0);
    assert!(plain(&mut shared_state, 0, 0).contains(&(i64::MIN, i64::MAX)));
    assert!(crash_retry(&mut shared_state, 0, SECOND).is_some(), "those of the other index are not");
    let mut shared_state = after_crash(1, &[record(100, 115, 16)]);
    shared_state.close_lanes_of_missing(DB, &[1], &[]);
    shared_state.open_lane(DB, 1, false, 0);
    assert_eq!(wait_for_trial(&mut shared_state, 0), None);
}

/// As when somebody holds their objects.
#[test]
fn suspects_that_could_not_be_claimed_stay_suspected_and_are_tried_again_later() {
    let mut shared_state = after_crash(1, &[record(100, 115, 16)]);
    plain(&mut shared_state, 0, 0);
    let whole = Span { lo: 100, hi: 115 };
    for second in 1..4 {
        assert_eq!(crash_retry(&mut shared_state, 0, second * SECOND), Some((2, whole)));
        shared_state.enter_claim(0, Some(whole), None);
        shared_state.end_claim(0);
        shared_state.publish(DB, &[queued(1, 5000, 5001)], second * SECOND);
        assert_eq!(plain(&mut shared_state, 0, second * SECOND).len(), 1, "all else goes out meanwhile");
    }
    assert_eq!(crash_retry(&mut shared_state, 0, 4 * SECOND), Some((2, whole)));
}
