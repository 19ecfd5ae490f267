//! Failures and rejections: pauses, rows held back, dead letters.

use super::*;

#[test]
fn attempts_that_fail_together_count_as_one() {
    let mut lane = Lane::EMPTY;
    lane.back_off(LaneFailure::Retry, 5, "503", (10, 300), 200);
    assert!(lane.started_before_failure(20));
    lane.back_off(LaneFailure::Retry, 5, "503", (20, 210), 210);
    assert_eq!((lane.failures, lane.retrying, lane.retry_at), (1, 10, 300));
    assert!(!lane.started_before_failure(300));
    lane.back_off(LaneFailure::Retry, 5, "503", (300, 900), 400);
    assert_eq!((lane.failures, lane.retrying, lane.retry_at), (2, 5, 900));
}

#[test]
fn the_living_go_on_while_the_dead_are_buried() {
    let mut shared_state = shared_state(1);
    shared_state.publish(DB, &[queued(1, 1024, 1028)], 0);
    next_span(&mut shared_state, HUNGRY, 0).unwrap();
    let flight = fly(&mut shared_state, 0, 0, &[1024, 1025, 1026, 1027, 1028], None);
    let spans = IdRanges::new();
    shared_state.publish(
        DB,
        &[CommitDelta { index_id: 1, queued: 0, removed: 4, dead: 1, repairs: 0, spans }],
        5,
    );
    shared_state.end_flight(
        0,
        flight,
        [1024, 1025, 1026, 1027, 1028],
        FlightResult { judged: true, delivered: &[1024, 1025, 1027], withheld: 1, ..FlightResult::default() },
        5,
    );
    let lane = *shared_state.lane(0).unwrap();
    assert_eq!(
        (lane.queued, lane.dead, lane.dead_total, lane.delivered_total, lane.in_flight),
        (1, 1, 1, 3, 0)
    );
    // The fifth waits again.
    let (_, span, ..) = next_span(&mut shared_state, HUNGRY, 5).unwrap();
    assert!((span.lo..=span.hi).contains(&1028));
}

/// Claims the rows of a lane that can be claimed, as worker 0.
fn claim_all(shared_state: &mut SharedState, ids: &[i64], now: Micros) -> Vec<i64> {
    if next_span(shared_state, HUNGRY, now).is_none() {
        return Vec::new();
    }
    let held_back = shared_state.workers[0].scanning_held_back;
    let is_meant = |shared_state: &mut SharedState, id: i64| match held_back {
        0 => shared_state.claim(0, id) == Claim::Granted,
        _ => shared_state.is_in_held_back(HeldBackClaim { place: held_back as usize - 1, most: 1 }, id),
    };
    let taken: Vec<i64> = ids.iter().copied().filter(|id| is_meant(shared_state, *id)).collect();
    if taken.is_empty() {
        shared_state.enter_claim(0, None, None);
        shared_state.end_claim(0);
        return taken;
    }
    let span = Span { lo: taken[0], hi: taken[taken.len() - 1] };
    let flight = Flight {
        rows: taken.len() as i64,
        bytes: 1,
        lane: 0,
        fresh: false,
        span,
        started_at: now,
        held_back,
        partial: false,
    };
    shared_state.enter_claim(0, None, Some(flight)).unwrap();
    shared_state.end_claim(0);
    taken
}

#[test]
fn a_rejected_record_is_held_back_until_its_next_attempt_and_dies_after_the_last() {
    let mut shared_state = shared_state(1);
    shared_state.publish(DB, &[queued(1, 1024, 1025)], 0);
    for (attempt, now, due) in [(1, 0, 100), (2, 100, 250)] {
        assert_eq!(claim_all(&mut shared_state, &[1025], now), [1025]);
        assert_eq!(shared_state.judge_rejection(0, 1, 1025, 3), RejectAction::Retry(attempt));
        shared_state.end_flight(
            0,
            0,
            [1025],
            FlightResult { judged: true, withheld: 1, ..FlightResult::default() },
            now,
        );
        shared_state.hold_back(DB, 1, 1025, due);
        assert_eq!(shared_state.held_back_rows(DB, 1), 1);
        shared_state.sweep(DB, true);
        assert_eq!(
            claim_all(&mut shared_state, &[1025], due - 1),
            [] as [i64; 0],
            "a sweep does not set it free"
        );
        assert_eq!(wait_until(&mut shared_state, HUNGRY, due - 1), Some(due));
    }
    assert_eq!(claim_all(&mut shared_state, &[1025], 250), [1025]);
    assert_eq!(shared_state.judge_rejection(0, 1, 1025, 3), RejectAction::DeadLetter(3));
    assert_eq!(shared_state.judge_rejection(0, 1, 1024, 0), RejectAction::DeadLetter(1));
}

#[test]
fn what_keeps_a_record_from_being_sent_is_no_attempt() {
    let mut shared_state = shared_state(1);
    shared_state.publish(DB, &[queued(1, 1024, 1024)], 0);
    let hold_back = |shared_state: &mut SharedState, now: Micros| {
        shared_state.end_flight(0, 0, [1024], FlightResult { withheld: 1, ..FlightResult::default() }, now);
        shared_state.hold_back(DB, 1, 1024, now + 10);
    };
    for before in 0..5 {
        let now = 10 * Micros::from(before);
        assert_eq!(claim_all(&mut shared_state, &[1024], now), [1024]);
        assert_eq!(shared_state.note_unprocessable(0, 1, 1024), Some(before), "the pauses grow");
        hold_back(&mut shared_state, now);
        assert_eq!(shared_state.held_back_rows(DB, 1), 1);
    }
    assert_eq!(claim_all(&mut shared_state, &[1024], 50), [1024]);
    assert_eq!(shared_state.judge_rejection(0, 1, 1024, 2), RejectAction::Retry(1));
    hold_back(&mut shared_state, 50);
    assert_eq!(claim_all(&mut shared_state, &[1024], 60), [1024]);
    assert_eq!(shared_state.judge_rejection(0, 1, 1024, 2), RejectAction::DeadLetter(2));
}

#[test]
fn a_record_that_arrives_after_all_has_a_clean_slate() {
    let mut shared_state = shared_state(1);
    shared_state.publish(DB, &[queued(1, 1024, 1024)], 0);
    claim_all(&mut shared_state, &[1024], 0);
    assert_eq!(shared_state.judge_rejection(0, 1, 1024, 3), RejectAction::Retry(1));
    shared_state.end_flight(
        0,
        0,
        [1024],
        FlightResult { judged: true, withheld: 1, ..FlightResult::default() },
        0,
    );
    shared_state.hold_back(DB, 1, 1024, 10);
    assert_eq!(claim_all(&mut shared_state, &[1024], 10), [1024]);
    shared_state.settled(0, 0, &[1024], 10);
    assert_eq!(shared_state.held_back_rows(DB, 1), 0);
    assert_eq!(shared_state.judge_rejection(0, 1, 1024, 3), RejectAction::Retry(1));
}

#[test]
fn one_record_too_many_to_be_held_back_dies_and_the_others_are_kept() {
    let mut shared_state = shared_state(1);
    shared_state.open_lane(DB, 1, false, 0);
    for id in 0..HELD_BACK as i64 {
        assert_eq!(shared_state.judge_rejection(0, 1, id, 3), RejectAction::Retry(1));
        shared_state.hold_back(DB, 1, id, 100 + id);
    }
    assert_eq!(shared_state.judge_rejection(0, 1, -1, 3), RejectAction::DeadLetter(1));
    assert_eq!(shared_state.held_back_rows(DB, 1), HELD_BACK as i64);
    shared_state.close_lanes(DB);
    assert_eq!(shared_state.held_back_rows(DB, 1), 0);
    assert_eq!(shared_state.claim(0, 5), Claim::Granted, "their claims have ended with them");
}

#[test]
fn a_success_that_began_before_a_failure_does_not_end_the_pause() {
    let mut shared_state = shared_state(1);
    shared_state.publish(DB, &[queued(1, 1024, 1024)], 0);
    shared_state.publish(DB, &[queued(1, 1 << 40, 1 << 40)], 0);
    let first = fly_at(&mut shared_state, 1 << 40, 10);
    let second = fly_at(&mut shared_state, 1024, 11);
    shared_state.released(0, first, [1 << 40]);
    shared_state.lane_at(0).unwrap().back_off(LaneFailure::Retry, 1, "429", (10, 30_000), 20);
    shared_state.settled(0, second, &[1024], 21);
    let lane = shared_state.lane(0).unwrap();
    assert_eq!((lane.failures, lane.retry_at, lane.delivered_total), (1, 30_000, 1));
    let probe = fly_at(&mut shared_state, 1 << 40, 30_000);
    shared_state.settled(0, probe, &[1 << 40], 30_001);
    let lane = shared_state.lane(0).unwrap();
    assert_eq!((lane.failures, lane.retry_at), (0, 0));
}

#[test]
fn a_failure_of_what_was_sent_before_a_resumption_is_no_reason_to_wait() {
    let mut shared_state = shared_state(1);
    shared_state.publish(DB, &[queued(1, 1024, 1024)], 0);
    let flight = fly_at(&mut shared_state, 1024, 10);
    shared_state.lane_at(0).unwrap().retry_now(20);
    shared_state.released(0, flight, [1024]);
    shared_state.lane_at(0).unwrap().back_off(LaneFailure::Blocked, 1, "403", (10, 300_000), 30);
    assert_eq!(shared_state.lane(0).unwrap().retry_at, 0);
    let probe = fly_at(&mut shared_state, 1024, 40);
    shared_state.released(0, probe, [1024]);
    shared_state.lane_at(0).unwrap().back_off(LaneFailure::Blocked, 1, "403", (40, 300_000), 50);
    assert_eq!(shared_state.lane(0).unwrap().retry_at, 300_000);
}

#[test]
fn records_that_were_never_sent_do_not_end_a_pause() {
    let mut shared_state = shared_state(1);
    shared_state.publish(DB, &[queued(1, 1024, 1024)], 0);
    shared_state.lane_at(0).unwrap().back_off(LaneFailure::Blocked, 1, "403", (0, 100), 20);
    let flight = fly_at(&mut shared_state, 1024, 100);
    shared_state.end_flight(0, flight, [1024], FlightResult { withheld: 1, ..FlightResult::default() }, 101);
    let lane = shared_state.lane(0).unwrap();
    assert_eq!((lane.failures, lane.blocked), (1, true));
}

/// Claims one row in a flight of its own.
fn fly_at(shared_state: &mut SharedState, id: i64, now: Micros) -> usize {
    assert!(next_span(shared_state, HUNGRY, now).is_some());
    assert_eq!(shared_state.claim(0, id), Claim::Granted);
    let flight = Flight {
        rows: 1,
        bytes: 1,
        lane: 0,
        fresh: false,
        span: Span { lo: id, hi: id },
        started_at: now,
        held_back: 0,
        partial: false,
    };
    let place = shared_state.enter_claim(0, None, Some(flight)).unwrap();
    shared_state.end_claim(0);
    place
}

#[test]
fn records_rejected_together_do_not_take_each_others_places() {
    let mut shared_state = shared_state(1);
    shared_state.publish(DB, &[queued(1, 1024, 2047)], 0);
    for id in 0..HELD_BACK as i64 - 3 {
        shared_state.judge_rejection(0, 1, id, 3);
        shared_state.hold_back(DB, 1, id, 100);
    }
    let batch: Vec<i64> = (1024..1034).collect();
    let actions: Vec<RejectAction> =
        batch.iter().map(|id| shared_state.judge_rejection(0, 1, *id, 3)).collect();
    assert_eq!(actions[..3], [RejectAction::Retry(1); 3]);
    assert_eq!(actions[3..], [RejectAction::DeadLetter(1); 7]);
    for id in &batch[..3] {
        shared_state.hold_back(DB, 1, *id, 100);
    }
    assert_eq!(shared_state.held_back_rows(DB, 1), HELD_BACK as i64);
    assert_eq!(shared_state.lowest(&Announcements::new(), DB, 1), Some(0), "what is held back waits, too");
}

#[test]
fn a_record_judged_by_a_worker_that_dies_loses_its_place_to_others() {
    let mut shared_state = shared_state(1);
    for id in 0..HELD_BACK as i64 {
        shared_state.judge_rejection(0, 1, id, 3);
    }
    assert_eq!(shared_state.judge_rejection(0, 1, 5000, 3), RejectAction::DeadLetter(1));
    shared_state.worker_exited(0, WorkerExit::Failed, 0, 0);
    let (slot, launch) = shared_state.reserve_slot(DB, 0).unwrap();
    shared_state.attach_worker(slot, launch, 1, 1, 0);
    assert_eq!(shared_state.judge_rejection(slot, 1, 5000, 3), RejectAction::Retry(1));
}

#[test]
fn a_record_that_cannot_be_held_back_is_not_lost_from_sight() {
    let mut shared_state = shared_state(1);
    shared_state.open_lane(DB, 1, false, 0);
    claim_all(&mut shared_state, &[], 0);
    shared_state.end_claim(0);
    assert_eq!(next_span(&mut shared_state, HUNGRY, 0), None, "all has been looked through");
    shared_state.hold_back(DB, 1, 77, 100);
    let found = next_span(&mut shared_state, HUNGRY, 0).map(|(_, span, ..)| span);
    assert_eq!(found, Some(Span { lo: 77, hi: 77 }));
}

#[test]
fn an_index_that_flaps_is_told_of_once_a_minute() {
    let (mut lane, mut told) = (Lane::EMPTY, [0; 3]);
    for second in 0..180 {
        let now = 1 + second * 1_000_000;
        for (count, is_news) in told.iter_mut().zip([
            lane.should_log_failure(LaneFailure::Retry, now),
            lane.should_log_recovery(now),
            lane.should_log_failure(LaneFailure::Blocked, now),
        ]) {
            *count += u32::from(is_news);
        }
        lane.should_log_recovery(now);
    }
    assert_eq!(told, [3, 3, 3]);
}
