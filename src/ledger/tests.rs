//! The ledger without a server: claims, turns, failures and counts.

mod backfill;
mod clock;
mod doubt;
mod leftovers;
mod room;
mod settings;

use std::collections::HashMap;

use super::*;
use crate::regions::Regions;

const DB: u32 = 5;

/// A ledger as a server that has just started has it, with one worker per name in `workers`.
fn ledger(workers: usize) -> Box<Ledger> {
    let mut ledger = Ledger::boxed();
    for number in 0..workers {
        let (slot, launch) = ledger.enlist(DB, number as u32).unwrap();
        assert!(ledger.report_for_duty(slot, launch, 100 + number as i32, 1000 + number as u64, 0));
    }
    ledger
}

fn queued(index_id: i32, lo: i64, hi: i64) -> Change {
    let mut spans = Regions::new();
    spans.add(lo, hi);
    Change { index_id, queued: hi - lo + 1, removed: 0, dead: 0, spans }
}

const HUNGRY: Appetite = Appetite { slots: 4, batch_rows: 1000, linger: 0, tail_share: 0 };

fn next_span(ledger: &mut Ledger, appetite: Appetite, now: Micros) -> Option<(i32, Span, End, bool)> {
    match ledger.next(0, appetite, now) {
        Next::Claim { index_id, claimable, .. } => {
            Some((index_id, claimable.span, claimable.end, claimable.fresh))
        }
        Next::Wait { .. } => None,
    }
}

fn wait_until(ledger: &mut Ledger, appetite: Appetite, now: Micros) -> Option<Micros> {
    match ledger.next(0, appetite, now) {
        Next::Wait { until, .. } => until,
        claim => panic!("{claim:?}"),
    }
}

/// Pretends that the worker claimed the rows `ids` of the span it was given.
fn fly(ledger: &mut Ledger, worker: usize, lane: usize, ids: &[i64], rest: Option<Span>) -> usize {
    for id in ids {
        assert_eq!(ledger.claim(worker, *id), Claim::Taken);
    }
    let span = Span { lo: *ids.iter().min().unwrap(), hi: *ids.iter().max().unwrap() };
    let flight =
        Flight { rows: ids.len() as i64, bytes: 1, lane: lane as u32, fresh: false, span, started_at: 0 };
    let place = ledger.claimed(worker, rest, Some(flight)).unwrap();
    ledger.claim_ended(worker);
    place
}

#[test]
fn what_a_commit_publishes_is_claimed_next_and_wakes_a_sleeper() {
    let mut ledger = ledger(1);
    assert_eq!(next_span(&mut ledger, HUNGRY, 0), None);
    let wakes = ledger.publish(7, DB, &[queued(1, 2048, 2050)], 0);
    assert_eq!(wakes.iter().collect::<Vec<_>>(), vec![1000]);
    let (index, span, end, fresh) = next_span(&mut ledger, HUNGRY, 0).unwrap();
    assert_eq!((index, end, fresh), (1, End::Newest, true));
    assert!(span.lo == 2048 && span.hi >= 2050 && span.hi < 3072);
    assert_eq!(next_span(&mut ledger, HUNGRY, 0), None);
}

/// Puts batches of the backlog into a worker's hands.
fn load(ledger: &mut Ledger, worker: usize, batches: usize) {
    let span = Span { lo: 0, hi: 0 };
    let flight = Flight { rows: 1, bytes: 1, lane: 0, fresh: false, span, started_at: 0 };
    for _ in 0..batches {
        ledger.workers[worker].take_off(flight).unwrap();
    }
}

#[test]
fn a_stream_of_fresh_rows_does_not_starve_the_tail() {
    let mut ledger = ledger(1);
    ledger.open_lane(DB, 1, false, 0);
    let appetite = Appetite { tail_share: 10, ..HUNGRY };
    let mut ends = Vec::new();
    for block in 1..=100 {
        ledger.publish(7, DB, &[queued(1, block * 1024, block * 1024)], 0);
        let (_, span, end, fresh) = next_span(&mut ledger, appetite, 0).unwrap();
        assert!(fresh || end == End::Oldest);
        ends.push(end);
        ledger.claimed(0, (!fresh).then_some(span), None);
        ledger.claim_ended(0);
    }
    assert_eq!(ends.iter().filter(|end| **end == End::Oldest).count(), 10);
}

#[test]
fn a_fresh_row_goes_before_the_backlog_and_has_a_slot_of_its_own() {
    let mut ledger = ledger(1);
    ledger.open_lane(DB, 1, false, 0);
    load(&mut ledger, 0, 3);
    assert_eq!(next_span(&mut ledger, HUNGRY, 0), None, "the last slot is not for the backlog");
    ledger.publish(7, DB, &[queued(1, 4096, 4096)], 0);
    let (_, span, _, fresh) = next_span(&mut ledger, HUNGRY, 0).unwrap();
    assert!(fresh && span.lo == 4096);
    ledger.workers[0].land(0);
    let (_, span, _, fresh) = next_span(&mut ledger, HUNGRY, 0).unwrap();
    assert!(!fresh && span == Span { lo: i64::MIN, hi: i64::MAX });
}

#[test]
fn the_tail_gets_its_share_of_the_backlog() {
    let mut ledger = ledger(1);
    ledger.open_lane(DB, 1, false, 0);
    let appetite = Appetite { tail_share: 10, ..HUNGRY };
    let mut ends = Vec::new();
    for _ in 0..100 {
        let (_, span, end, _) = next_span(&mut ledger, appetite, 0).unwrap();
        ends.push(end);
        ledger.claimed(0, Some(span), None);
        ledger.claim_ended(0);
    }
    assert_eq!(ends.iter().filter(|end| **end == End::Oldest).count(), 10);
}

#[test]
fn linger_waits_for_more_rows_but_not_for_a_full_batch() {
    let mut ledger = ledger(1);
    let patient = Appetite { linger: 500, batch_rows: 10, ..HUNGRY };
    ledger.publish(7, DB, &[queued(1, 1024, 1026)], 100);
    assert_eq!(wait_until(&mut ledger, patient, 100), Some(600));
    ledger.publish(8, DB, &[queued(1, 2048, 2060)], 200);
    assert!(matches!(ledger.next(0, patient, 200), Next::Claim { .. }));
}

#[test]
fn a_row_held_by_one_worker_is_not_given_to_another() {
    let mut ledger = ledger(2);
    ledger.publish(7, DB, &[queued(1, 1024, 1030)], 0);
    assert!(next_span(&mut ledger, HUNGRY, 0).is_some());
    let flight = fly(&mut ledger, 0, 0, &[1024, 1025], None);
    assert_eq!(ledger.claim(1, 1024), Claim::HeldBy(1));
    ledger.settled(0, flight, &[1024, 1025], 9);
    assert_eq!(ledger.claim(1, 1024), Claim::Taken);
    let lane = ledger.lane(0).unwrap();
    assert_eq!((lane.in_flight, lane.delivered_total, lane.last_delivered_at), (0, 2, 9));
}

#[test]
fn a_worker_that_dies_gives_everything_back() {
    let mut ledger = ledger(2);
    ledger.publish(7, DB, &[queued(1, 1024, 1033)], 0);
    assert!(next_span(&mut ledger, HUNGRY, 0).is_some());
    fly(&mut ledger, 0, 0, &[1030, 1031, 1032, 1033], Some(Span { lo: 1024, hi: 1029 }));
    assert!(next_span(&mut ledger, HUNGRY, 0).is_some(), "it is reading the rest when it dies");
    ledger.leave(0, Exit::Failed, 0, 0);
    let lane = ledger.lane(0).unwrap();
    assert_eq!(lane.in_flight, 0);
    assert_eq!(lane.backlog.iter().collect::<Vec<_>>(), vec![Span { lo: 1024, hi: 1033 }]);
    assert_eq!(ledger.claim(1, 1031), Claim::Taken);
}

#[test]
fn after_a_failure_one_batch_tries_first() {
    let mut ledger = ledger(1);
    ledger.publish(7, DB, &[queued(1, 1024, 1030)], 0);
    next_span(&mut ledger, HUNGRY, 0).unwrap();
    let flight = fly(&mut ledger, 0, 0, &[1030], Some(Span { lo: 1024, hi: 1029 }));
    ledger.released(0, flight, [1030]);
    ledger.lane_at(0).unwrap().set_back(Setback::Retry, 1, "503", (5, 1000), 10);
    assert_eq!(wait_until(&mut ledger, HUNGRY, 999), Some(1000));
    next_span(&mut ledger, HUNGRY, 1000).unwrap();
    let flight = fly(&mut ledger, 0, 0, &[1030], Some(Span { lo: 1024, hi: 1029 }));
    assert_eq!(wait_until(&mut ledger, HUNGRY, 1000), None, "the rest waits for the first answer");
    ledger.settled(0, flight, &[1030], 2000);
    assert!(next_span(&mut ledger, HUNGRY, 2000).is_some());
}

#[test]
fn a_paused_index_keeps_nobody_else_waiting() {
    let mut ledger = ledger(1);
    ledger.open_lane(DB, 1, true, 0);
    ledger.publish(7, DB, &[queued(1, 1024, 1024), queued(2, 1025, 1025)], 0);
    assert_eq!(next_span(&mut ledger, HUNGRY, 0).unwrap().0, 2);
    assert_eq!(next_span(&mut ledger, HUNGRY, 0), None);
}

#[test]
fn lanes_take_turns() {
    let mut ledger = ledger(1);
    for index in 1..=3 {
        ledger.open_lane(DB, index, false, 0);
    }
    let mut served = Vec::new();
    for _ in 0..6 {
        let (index, span, _, _) = next_span(&mut ledger, HUNGRY, 0).unwrap();
        served.push(index);
        ledger.claimed(0, Some(span), None);
        ledger.claim_ended(0);
    }
    assert_eq!(served, vec![1, 2, 3, 1, 2, 3]);
}

#[test]
fn rows_leave_when_the_log_is_on_disk_up_to_their_commit() {
    let mut ledger = ledger(0);
    let change = queued(1, 1024, 1026);
    assert_eq!(ledger.durable(), Durable::Until(0));
    // While it commits it may be visible, and nobody knows where in the log.
    assert!(ledger.announce(11, DB, &[change], true));
    assert!(ledger.announce(12, DB, &[change], false));
    assert_eq!(ledger.durable(), Durable::All);
    ledger.committed_at(700);
    ledger.publish(11, DB, &[change], 0);
    assert_eq!(ledger.durable(), Durable::Until(700));
    ledger.committed_at(600);
    ledger.publish(12, DB, &[change], 0);
    assert_eq!(ledger.durable(), Durable::Until(700));
    // One that takes rows away has nothing that could leave.
    ledger.announce(13, DB, &[Change { queued: 0, removed: 3, ..change }], true);
    assert_eq!(ledger.durable(), Durable::Until(700));
    ledger.announce(14, DB, &[change], true);
    ledger.retract(14);
    assert_eq!(ledger.durable(), Durable::Until(700));
    for xid in 100..100 + COMMITTING as u32 - 1 {
        assert!(ledger.announce(xid, DB, &[change], false));
    }
    assert!(!ledger.announce(15, DB, &[change], true), "there is no room");
}

#[test]
fn a_recount_is_exact_while_transactions_commit() {
    let mut ledger = ledger(0);
    let (index, rows) = (1, |change: Change| change.queued);
    // Ten rows from before the server started; nobody has counted them.
    let (early, late) = (queued(index, 1024, 1026), queued(index, 2048, 2052));
    ledger.announce(11, DB, &[early], false);
    ledger.announce(12, DB, &[late], false);
    // The snapshot sees the first transaction, which has not told yet, and not the second.
    let announced = ledger.announced(DB).find(|a| a.xid == 11).unwrap();
    let expected = HashMap::from([(index, announced.count)]);
    let counted = HashMap::from([(index, Count { queued: 10 + rows(early), dead: 7, repairs: 0 })]);
    // Both tell while the count is under way.
    ledger.publish(12, DB, &[late], 0);
    ledger.publish(11, DB, &[early], 0);
    ledger.correct(DB, &expected, &counted);
    assert_eq!(ledger.lane(0).unwrap().queued, 10 + rows(early) + rows(late));
    assert_eq!(ledger.lane(0).unwrap().dead, 7);
    assert_eq!(ledger.announced(DB).count(), 0);
}

#[test]
fn a_commit_that_found_no_room_to_announce_itself_asks_for_a_count_when_it_is_published() {
    let mut ledger = ledger(0);
    ledger.launcher_latch = 900;
    let change = |row: i64| queued(1, row * ID_BLOCK, row * ID_BLOCK);
    for xid in 1..=COMMITTING as u32 + 1 {
        ledger.announce(xid, DB, &[change(i64::from(xid))], false);
    }
    let recount = |ledger: &mut Ledger| ledger.database_mut(DB).unwrap().recount;
    assert!(!recount(&mut ledger), "a count could be made before the rows are there");
    assert_eq!(ledger.publish(1, DB, &[change(1)], 0).iter().count(), 0);
    assert!(!recount(&mut ledger));
    let late = COMMITTING as u32 + 1;
    let wakes = ledger.publish(late, DB, &[change(i64::from(late))], 0);
    assert!(recount(&mut ledger));
    assert_eq!(wakes.iter().collect::<Vec<_>>(), [900], "the launcher sees to it");
}

#[test]
fn forgotten_prepared_transactions_leave_room_for_those_that_commit() {
    let mut ledger = ledger(0);
    for xid in 1..=PREPARED as u32 + 1 {
        ledger.prepare(u64::from(xid), xid, DB, &[queued(1, 1024, 1024)], false);
    }
    assert_eq!(ledger.announced(DB).count(), PREPARED);
    for xid in 1000..1000 + COMMITTING as u32 {
        ledger.announce(xid, DB, &[queued(1, 4096, 4096)], false);
    }
    for xid in 1000..1000 + COMMITTING as u32 {
        ledger.publish(xid, DB, &[queued(1, 4096, 4096)], 0);
    }
    assert!(!ledger.database_mut(DB).unwrap().recount, "nothing has to be counted");
}

#[test]
fn a_counter_that_is_off_in_either_direction_is_put_right_by_a_count() {
    for everything in [false, true] {
        let mut ledger = ledger(1);
        ledger.open_lane(DB, 1, false, 0);
        ledger.lane_at(0).unwrap().backlog.clear();
        let mut asks = |queued, in_flight| {
            let lane = ledger.lane_at(0).unwrap();
            (lane.queued, lane.in_flight) = (queued, in_flight);
            lane.backlog.clear();
            ledger.sweep(DB, everything);
            std::mem::take(&mut ledger.database_mut(DB).unwrap().recount)
        };
        assert!(!asks(0, 0) && !asks(7, 7), "all is known");
        assert!(asks(7, 0), "rows that nobody knows of have been removed by hand");
        assert!(
            asks(-7, 0) && asks(2, 9),
            "rows that nobody has announced were delivered, or are about to be"
        );
    }
}

#[test]
fn failing_workers_are_started_more_and_more_slowly() {
    const SECOND: Micros = 1_000_000;
    let mut ledger = ledger(1);
    let (mut now, mut delays) = (0, Vec::new());
    for _ in 0..8 {
        ledger.leave(0, Exit::Failed, 0, now);
        let restart_at = ledger.database_mut(DB).unwrap().restart_at;
        delays.push((restart_at - now) / SECOND);
        now = restart_at;
        let (slot, launch) = ledger.enlist(DB, 0).unwrap();
        ledger.report_for_duty(slot, launch, 1, 1, now);
    }
    assert_eq!(delays, vec![1, 2, 4, 8, 16, 32, 60, 60]);
    now += 61 * SECOND;
    ledger.leave(0, Exit::Failed, 0, now);
    assert_eq!(ledger.database_mut(DB).unwrap().restart_at, now + SECOND, "it had been healthy for a minute");
}

#[test]
fn a_terminated_worker_is_started_again_after_a_second_each_time() {
    const SECOND: Micros = 1_000_000;
    let mut ledger = ledger(1);
    for now in [0, 5 * SECOND, 9 * SECOND] {
        ledger.leave(0, Exit::Terminated, 0, now);
        assert_eq!(ledger.database_mut(DB).unwrap().restart_at, now + SECOND);
        let (slot, launch) = ledger.enlist(DB, 0).unwrap();
        ledger.report_for_duty(slot, launch, 1, 1, now);
    }
}

#[test]
fn workers_that_end_together_delay_the_next_start_once() {
    let mut ledger = ledger(4);
    for slot in 0..4 {
        ledger.leave(slot, Exit::Failed, 0, 500_000 + slot as Micros);
    }
    let entry = ledger.database_mut(DB).unwrap();
    assert_eq!((entry.crashes, entry.restart_at), (1, 1_500_000));
}

#[test]
fn the_extension_leaves_no_trace_in_a_database_it_is_dropped_from() {
    let mut ledger = ledger(1);
    ledger.publish(7, DB, &[queued(1, 1024, 1030)], 0);
    next_span(&mut ledger, HUNGRY, 0).unwrap();
    fly(&mut ledger, 0, 0, &[1024], None);
    ledger.close_lanes(DB);
    ledger.publish(8, DB, &[queued(1, 4096, 4096)], 0);
    ledger.leave(0, Exit::Orderly, 0, 0);
    let lane = ledger.lane(0).unwrap();
    assert_eq!((lane.in_flight, lane.queued), (0, 1));
}

#[test]
fn a_prepared_transaction_is_published_when_it_is_committed() {
    let mut ledger = ledger(1);
    ledger.prepare(77, 11, DB, &[queued(1, 1024, 1026), queued(2, 1027, 1027)], false);
    assert_eq!(next_span(&mut ledger, HUNGRY, 0), None);
    assert_eq!(ledger.announced(DB).count(), 2, "a recount knows of its rows until they are counted");
    ledger.commit_prepared(77, DB, 0);
    assert_eq!(ledger.announced(DB).count(), 0);
    let queued: Vec<i64> = (0..2).map(|lane| ledger.lane(lane).unwrap().queued).collect();
    assert_eq!(queued, vec![3, 1]);
    assert!(next_span(&mut ledger, HUNGRY, 0).is_some());
    assert!(!ledger.database_mut(DB).unwrap().recount);
}

#[test]
fn a_prepared_transaction_nobody_remembers_has_the_queue_read_again() {
    let mut ledger = ledger(1);
    ledger.open_lane(DB, 1, false, 0);
    ledger.lane_at(0).unwrap().backlog.clear();
    ledger.commit_prepared(77, DB, 0);
    assert!(ledger.database_mut(DB).unwrap().recount);
    assert_eq!(next_span(&mut ledger, HUNGRY, 0).unwrap().1, Span { lo: i64::MIN, hi: i64::MAX });
}

#[test]
fn a_prepared_transaction_rolled_back_or_empty_leaves_nothing() {
    let mut ledger = ledger(1);
    ledger.prepare(77, 11, DB, &[queued(1, 1024, 1026)], false);
    ledger.rollback_prepared(77, DB);
    ledger.prepare(78, 12, DB, &[], false);
    ledger.commit_prepared(78, DB, 0);
    assert_eq!((ledger.announced(DB).count(), ledger.database_mut(DB).unwrap().recount), (0, false));
    assert_eq!(next_span(&mut ledger, HUNGRY, 0), None);
}

#[test]
fn whoever_served_an_extension_that_is_no_more_leaves_and_closes_its_books_once() {
    let mut ledger = ledger(3);
    let look = |ledger: &mut Ledger, worker, found| {
        ledger.look(worker);
        ledger.note_extension(worker, found).0
    };
    assert_eq!(look(&mut ledger, 0, 70), Duty::Serve);
    assert_eq!(look(&mut ledger, 1, 70), Duty::Serve);
    ledger.publish(7, DB, &[queued(1, 1024, 1030)], 0);
    next_span(&mut ledger, HUNGRY, 0).unwrap();
    let flight = fly(&mut ledger, 0, 0, &[1024], None);
    // Dropped and made anew in one transaction.
    assert_eq!(look(&mut ledger, 1, 80), Duty::Leave);
    assert_eq!(look(&mut ledger, 2, 80), Duty::Serve);
    ledger.publish(8, DB, &[queued(1, 1024, 1024)], 0);
    assert_eq!(look(&mut ledger, 0, 80), Duty::Leave, "but the new books stay");
    assert_eq!(ledger.claim(2, 1024), Claim::Taken);
    ledger.settled(0, flight, &[1024], 0);
    assert_eq!(ledger.claim(1, 1024), Claim::HeldBy(3), "an old flight frees no new claim");
    assert_eq!(ledger.lane(0).unwrap().queued, 1);
}

#[test]
fn a_change_while_a_worker_looks_has_it_look_again() {
    let mut ledger = ledger(1);
    ledger.look(0);
    ledger.extension_changed(DB);
    assert_eq!(ledger.note_extension(0, 0).0, Duty::LookAgain);
    assert_eq!(ledger.database_mut(DB).unwrap().extension, Extension::Unknown);
}

#[test]
fn a_database_is_held_until_the_last_statement_has_ended() {
    let mut ledger = ledger(0);
    ledger.hold(DB, 100);
    ledger.hold(DB, 100);
    ledger.unhold(DB);
    assert!(ledger.is_held(DB, 0));
    ledger.unhold(DB);
    assert!(!ledger.is_held(DB, 0));
    ledger.hold(DB, 100);
    assert!(!ledger.is_held(DB, 100), "a statement that never ended is forgotten");
}

#[test]
fn attempts_that_fail_together_count_as_one() {
    let mut lane = Lane::EMPTY;
    lane.set_back(Setback::Retry, 5, "503", (10, 300), 200);
    assert!(lane.knew_of(20));
    lane.set_back(Setback::Retry, 5, "503", (20, 210), 210);
    assert_eq!((lane.failures, lane.retrying, lane.retry_at), (1, 10, 300));
    assert!(!lane.knew_of(300));
    lane.set_back(Setback::Retry, 5, "503", (300, 900), 400);
    assert_eq!((lane.failures, lane.retrying, lane.retry_at), (2, 5, 900));
}

#[test]
fn workers_and_launcher_look_when_a_prepared_transaction_has_changed_more_than_rows() {
    let mut ledger = ledger(1);
    ledger.look(0);
    assert_eq!(ledger.note_extension(0, 70).0, Duty::Serve);
    ledger.prepare(77, 11, DB, &[], true);
    assert!(!ledger.workers[0].stale);
    let wakes = ledger.commit_prepared(77, DB, 0);
    assert!(ledger.workers[0].stale);
    assert_eq!(ledger.database_mut(DB).unwrap().extension, Extension::Unknown);
    assert_eq!(wakes.iter().collect::<Vec<_>>(), vec![1000]);
}

#[test]
fn the_living_go_on_while_the_dead_are_buried() {
    let mut ledger = ledger(1);
    ledger.publish(7, DB, &[queued(1, 1024, 1028)], 0);
    next_span(&mut ledger, HUNGRY, 0).unwrap();
    let flight = fly(&mut ledger, 0, 0, &[1024, 1025, 1026, 1027, 1028], None);
    let spans = Regions::new();
    ledger.publish(8, DB, &[Change { index_id: 1, queued: 0, removed: 4, dead: 1, spans }], 5);
    ledger.landed(
        0,
        flight,
        [1024, 1025, 1026, 1027, 1028],
        Landing { judged: true, delivered: &[1024, 1025, 1027], kept: 1, ..Landing::default() },
        5,
    );
    let lane = *ledger.lane(0).unwrap();
    assert_eq!(
        (lane.queued, lane.dead, lane.dead_total, lane.delivered_total, lane.in_flight),
        (1, 1, 1, 3, 0)
    );
    // The fifth waits again.
    let (_, span, ..) = next_span(&mut ledger, HUNGRY, 5).unwrap();
    assert!((span.lo..=span.hi).contains(&1028));
}

/// Claims, as worker 0, the rows of a lane that can be claimed.
fn claim_all(ledger: &mut Ledger, ids: &[i64], now: Micros) -> Vec<i64> {
    if next_span(ledger, HUNGRY, now).is_none() {
        return Vec::new();
    }
    let taken: Vec<i64> = ids.iter().copied().filter(|id| ledger.claim(0, *id) == Claim::Taken).collect();
    if taken.is_empty() {
        ledger.claimed(0, None, None);
        return taken;
    }
    let span = Span { lo: taken[0], hi: taken[taken.len() - 1] };
    let flight = Flight { rows: taken.len() as i64, bytes: 1, lane: 0, fresh: false, span, started_at: now };
    ledger.claimed(0, None, Some(flight)).unwrap();
    taken
}

#[test]
fn a_refused_record_is_held_back_until_its_next_attempt_and_dies_after_the_last() {
    let mut ledger = ledger(1);
    ledger.publish(7, DB, &[queued(1, 1024, 1025)], 0);
    for (attempt, now, due) in [(1, 0, 100), (2, 100, 250)] {
        assert_eq!(claim_all(&mut ledger, &[1025], now), [1025]);
        assert_eq!(ledger.judge(0, 1, 1025, 3), Sentence::Waits(attempt));
        ledger.landed(0, 0, [1025], Landing { judged: true, kept: 1, ..Landing::default() }, now);
        ledger.hold_back(DB, 1, 1025, due);
        assert_eq!(ledger.on_probation(DB, 1), 1);
        ledger.sweep(DB, true);
        assert_eq!(claim_all(&mut ledger, &[1025], due - 1), [] as [i64; 0], "a sweep does not set it free");
        assert_eq!(wait_until(&mut ledger, HUNGRY, due - 1), Some(due));
    }
    assert_eq!(claim_all(&mut ledger, &[1025], 250), [1025]);
    assert_eq!(ledger.judge(0, 1, 1025, 3), Sentence::Dies(3));
    assert_eq!(ledger.judge(0, 1, 1024, 0), Sentence::Dies(1));
}

#[test]
fn a_record_that_arrives_after_all_has_a_clean_slate() {
    let mut ledger = ledger(1);
    ledger.publish(7, DB, &[queued(1, 1024, 1024)], 0);
    claim_all(&mut ledger, &[1024], 0);
    assert_eq!(ledger.judge(0, 1, 1024, 3), Sentence::Waits(1));
    ledger.settled(0, 0, &[1024], 0);
    assert_eq!(ledger.judge(0, 1, 1024, 3), Sentence::Waits(1));
}

#[test]
fn one_record_too_many_on_probation_dies_and_the_others_are_kept() {
    let mut ledger = ledger(1);
    ledger.open_lane(DB, 1, false, 0);
    for id in 0..PROBATIONS as i64 {
        assert_eq!(ledger.judge(0, 1, id, 3), Sentence::Waits(1));
        ledger.hold_back(DB, 1, id, 100 + id);
    }
    assert_eq!(ledger.judge(0, 1, -1, 3), Sentence::Dies(1));
    assert_eq!(ledger.on_probation(DB, 1), PROBATIONS as i64);
    ledger.close_lanes(DB);
    assert_eq!(ledger.on_probation(DB, 1), 0);
    assert_eq!(ledger.claim(0, 5), Claim::Taken, "their claims have ended with them");
}

#[test]
fn a_success_that_began_before_a_failure_does_not_end_the_pause() {
    let mut ledger = ledger(1);
    ledger.publish(7, DB, &[queued(1, 1024, 1024)], 0);
    ledger.publish(8, DB, &[queued(1, 1 << 40, 1 << 40)], 0);
    let first = fly_at(&mut ledger, 1 << 40, 10);
    let second = fly_at(&mut ledger, 1024, 11);
    ledger.released(0, first, [1 << 40]);
    ledger.lane_at(0).unwrap().set_back(Setback::Retry, 1, "429", (10, 30_000), 20);
    ledger.settled(0, second, &[1024], 21);
    let lane = ledger.lane(0).unwrap();
    assert_eq!((lane.failures, lane.retry_at, lane.delivered_total), (1, 30_000, 1));
    let probe = fly_at(&mut ledger, 1 << 40, 30_000);
    ledger.settled(0, probe, &[1 << 40], 30_001);
    let lane = ledger.lane(0).unwrap();
    assert_eq!((lane.failures, lane.retry_at), (0, 0));
}

#[test]
fn a_failure_of_what_was_sent_before_a_resumption_is_no_reason_to_wait() {
    let mut ledger = ledger(1);
    ledger.publish(7, DB, &[queued(1, 1024, 1024)], 0);
    let flight = fly_at(&mut ledger, 1024, 10);
    ledger.lane_at(0).unwrap().retry_now(20);
    ledger.released(0, flight, [1024]);
    ledger.lane_at(0).unwrap().set_back(Setback::Blocked, 1, "403", (10, 300_000), 30);
    assert_eq!(ledger.lane(0).unwrap().retry_at, 0);
    let probe = fly_at(&mut ledger, 1024, 40);
    ledger.released(0, probe, [1024]);
    ledger.lane_at(0).unwrap().set_back(Setback::Blocked, 1, "403", (40, 300_000), 50);
    assert_eq!(ledger.lane(0).unwrap().retry_at, 300_000);
}

#[test]
fn records_that_were_never_sent_do_not_end_a_pause() {
    let mut ledger = ledger(1);
    ledger.publish(7, DB, &[queued(1, 1024, 1024)], 0);
    ledger.lane_at(0).unwrap().set_back(Setback::Blocked, 1, "403", (0, 100), 20);
    let flight = fly_at(&mut ledger, 1024, 100);
    ledger.landed(0, flight, [1024], Landing { kept: 1, ..Landing::default() }, 101);
    let lane = ledger.lane(0).unwrap();
    assert_eq!((lane.failures, lane.blocked), (1, true));
}

/// Claims one row in a flight of its own.
fn fly_at(ledger: &mut Ledger, id: i64, now: Micros) -> usize {
    assert!(next_span(ledger, HUNGRY, now).is_some());
    assert_eq!(ledger.claim(0, id), Claim::Taken);
    let flight =
        Flight { rows: 1, bytes: 1, lane: 0, fresh: false, span: Span { lo: id, hi: id }, started_at: now };
    let place = ledger.claimed(0, None, Some(flight)).unwrap();
    ledger.claim_ended(0);
    place
}

#[test]
fn records_refused_together_do_not_take_each_others_places() {
    let mut ledger = ledger(1);
    ledger.publish(7, DB, &[queued(1, 1024, 2047)], 0);
    for id in 0..PROBATIONS as i64 - 3 {
        ledger.judge(0, 1, id, 3);
        ledger.hold_back(DB, 1, id, 100);
    }
    let batch: Vec<i64> = (1024..1034).collect();
    let sentences: Vec<Sentence> = batch.iter().map(|id| ledger.judge(0, 1, *id, 3)).collect();
    assert_eq!(sentences[..3], [Sentence::Waits(1); 3]);
    assert_eq!(sentences[3..], [Sentence::Dies(1); 7]);
    for id in &batch[..3] {
        ledger.hold_back(DB, 1, *id, 100);
    }
    assert_eq!(ledger.on_probation(DB, 1), PROBATIONS as i64);
    assert_eq!(ledger.lowest(DB, 1), Some(0), "what is held back waits, too");
}

#[test]
fn a_record_judged_by_a_worker_that_dies_loses_its_place_to_others() {
    let mut ledger = ledger(1);
    for id in 0..PROBATIONS as i64 {
        ledger.judge(0, 1, id, 3);
    }
    assert_eq!(ledger.judge(0, 1, 5000, 3), Sentence::Dies(1));
    ledger.leave(0, Exit::Failed, 0, 0);
    let (slot, launch) = ledger.enlist(DB, 0).unwrap();
    ledger.report_for_duty(slot, launch, 1, 1, 0);
    assert_eq!(ledger.judge(slot, 1, 5000, 3), Sentence::Waits(1));
}

#[test]
fn a_record_that_cannot_be_held_back_is_not_lost_from_sight() {
    let mut ledger = ledger(1);
    ledger.open_lane(DB, 1, false, 0);
    claim_all(&mut ledger, &[], 0);
    ledger.claim_ended(0);
    assert_eq!(next_span(&mut ledger, HUNGRY, 0), None, "all has been looked through");
    ledger.hold_back(DB, 1, 77, 100);
    let found = next_span(&mut ledger, HUNGRY, 0).map(|(_, span, ..)| span);
    assert_eq!(found, Some(Span { lo: 77, hi: 77 }));
}

#[test]
fn an_index_that_flaps_is_told_of_once_a_minute() {
    let (mut lane, mut told) = (Lane::EMPTY, [0; 3]);
    for second in 0..180 {
        let now = 1 + second * 1_000_000;
        for (count, is_news) in told.iter_mut().zip([
            lane.tell_trouble(Setback::Retry, now),
            lane.tell_recovery(now),
            lane.tell_trouble(Setback::Blocked, now),
        ]) {
            *count += u32::from(is_news);
        }
        lane.tell_recovery(now);
    }
    assert_eq!(told, [3, 3, 3]);
}

#[test]
fn a_count_that_keeps_failing_is_made_more_and_more_rarely() {
    let mut ledger = ledger(0);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        ledger.counter_ended(DB, true, 0);
        pauses.push(ledger.database_mut(DB).unwrap().recount_at / 1_000_000);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    ledger.counter_ended(DB, false, 0);
    ledger.counter_ended(DB, true, 0);
    assert_eq!(ledger.database_mut(DB).unwrap().recount_at, 1_000_000);
}

#[test]
fn a_commit_to_a_paused_index_wakes_nobody() {
    let mut ledger = ledger(1);
    ledger.open_lane(DB, 1, true, 0);
    assert_eq!(next_span(&mut ledger, HUNGRY, 0), None);
    assert_eq!(ledger.publish(7, DB, &[queued(1, 1024, 1030)], 0).iter().count(), 0);
    ledger.open_lane(DB, 1, false, 0);
    assert_eq!(ledger.publish(8, DB, &[queued(1, 2048, 2048)], 0).iter().count(), 1);
}

#[test]
fn a_commit_to_an_index_that_backs_off_wakes_nobody_before_its_time() {
    let mut ledger = ledger(1);
    ledger.open_lane(DB, 1, false, 0);
    ledger.lane_at(0).unwrap().backlog.clear();
    ledger.lane_at(0).unwrap().set_back(Setback::Retry, 0, "503", (0, 500), 1);
    assert_eq!(wait_until(&mut ledger, HUNGRY, 2), Some(500), "also if nothing waits yet");
    assert_eq!(ledger.publish(7, DB, &[queued(1, 1024, 1030)], 499).iter().count(), 0);
    assert_eq!(ledger.publish(8, DB, &[queued(1, 2048, 2048)], 500).iter().count(), 1);
}

#[test]
fn what_a_claim_leaves_over_is_nobodys_until_its_transaction_is_over() {
    let mut ledger = ledger(2);
    ledger.publish(7, DB, &[queued(1, 1024, 1030)], 0);
    next_span(&mut ledger, HUNGRY, 0).unwrap();
    assert_eq!(ledger.claim(0, 1030), Claim::Taken);
    let span = Span { lo: 1030, hi: 1030 };
    let flight = Flight { rows: 1, bytes: 1, lane: 0, fresh: true, span, started_at: 0 };
    ledger.claimed(0, Some(Span { lo: 1024, hi: 1029 }), Some(flight)).unwrap();
    // The other rows may be locked still, and would be passed over.
    assert!(matches!(ledger.next(1, HUNGRY, 0), Next::Wait { .. }));
    ledger.claim_ended(0);
    let Next::Claim { claimable, .. } = ledger.next(1, HUNGRY, 0) else { panic!("nothing to claim") };
    assert_eq!((claimable.span.lo, claimable.span.hi), (1024, 1029));
    // Of one that dies before that, both wait again.
    assert_eq!(ledger.claim(1, 1029), Claim::Taken);
    let flight = Flight { span: Span { lo: 1029, hi: 1029 }, ..flight };
    ledger.claimed(1, Some(Span { lo: 1024, hi: 1028 }), Some(flight)).unwrap();
    ledger.leave(1, Exit::Failed, 0, 0);
    let lane = ledger.lane(0).unwrap();
    assert_eq!(lane.backlog.iter().map(|span| (span.lo, span.hi)).collect::<Vec<_>>(), [(1024, 1029)]);
}
