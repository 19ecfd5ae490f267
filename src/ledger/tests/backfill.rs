//! History in the ledger: its rows yield to live ones, and its process comes and goes.

use super::*;

const SECOND: Micros = 1_000_000;

fn removed(index_id: i32, rows: i64) -> Change {
    Change { index_id, removed: rows, ..Change::EMPTY }
}

#[test]
fn history_waits_behind_all_live_rows_and_goes_newest_first() {
    let mut ledger = ledger(1);
    let appetite = Appetite { tail_share: 50, ..HUNGRY };
    ledger.publish(1, DB, &[queued(7, -1100, -1025)], 0);
    ledger.publish(2, DB, &[queued(7, -2100, -2049)], 0);
    ledger.publish(3, DB, &[queued(7, 1_048_576, 1_048_600)], 0);
    ledger.lane_mut(DB, 7).unwrap().give_back(Span { lo: 2048, hi: 2050 });
    let mut given = Vec::new();
    while let Some((_, span, end, fresh)) = next_span(&mut ledger, appetite, 0) {
        given.push((span.lo, end, fresh));
        ledger.claimed(0, None, None);
        ledger.claim_ended(0);
    }
    let newest = End::Newest;
    let live = &given[..2];
    assert!(live.contains(&(1_048_576, newest, true)), "{given:?}");
    assert!(live.iter().any(|(lo, _, _)| *lo == 2048), "{given:?}");
    assert_eq!(given[2..], [(-1100, newest, false), (-2100, newest, false)]);
}

#[test]
fn the_tail_is_that_of_live_rows_also_after_a_sweep() {
    let mut ledger = ledger(1);
    let appetite = Appetite { tail_share: 100, ..HUNGRY };
    ledger.lane_mut(DB, 7).unwrap().sweep();
    let tail = next_span(&mut ledger, appetite, 0);
    assert_eq!(tail, Some((7, Span { lo: 0, hi: i64::MAX }, End::Oldest, false)));
    ledger.claimed(0, None, None);
    ledger.claim_ended(0);
    let history = next_span(&mut ledger, appetite, 0);
    assert_eq!(history, Some((7, Span { lo: i64::MIN, hi: -1 }, End::Newest, false)));
}

#[test]
fn a_fresh_row_is_not_kept_waiting_by_history_that_lingers() {
    let mut ledger = ledger(1);
    let appetite = Appetite { linger: 1000, ..HUNGRY };
    ledger.publish(1, DB, &[queued(7, -5000, -1025)], 0);
    assert_eq!(
        next_span(&mut ledger, appetite, 0),
        Some((7, Span { lo: -5000, hi: -1025 }, End::Newest, false))
    );
    ledger.claimed(0, None, None);
    ledger.claim_ended(0);
    ledger.publish(2, DB, &[queued(7, 1024, 1024)], 500);
    assert_eq!(
        wait_until(&mut ledger, appetite, 500),
        Some(1500),
        "history is no reason to send a row early"
    );
}

#[test]
fn the_process_is_started_once_and_again_when_it_never_comes() {
    let mut ledger = ledger(0);
    assert!(!ledger.awaits_backfiller(DB, 0));
    ledger.request_backfill(DB);
    assert!(!ledger.awaits_backfiller(DB, 0), "nobody knows that the extension is there");
    ledger.database_mut(DB).unwrap().extension = Extension::Present;
    assert!(ledger.awaits_backfiller(DB, 0));
    assert!(ledger.is_occupied(DB));
    assert!(!ledger.awaits_backfiller(DB, SECOND));
    assert!(ledger.awaits_backfiller(DB, 21 * SECOND));
    assert!(ledger.backfiller_came(DB, 42, 4200, 22 * SECOND));
    assert!(!ledger.backfiller_came(DB, 43, 4300, 22 * SECOND), "one is enough");
    assert!(ledger.backfiller_looks(DB));
    assert!(!ledger.backfiller_looks(DB));
    ledger.backfiller_left(DB, 43, true, false, 23 * SECOND);
    assert!(ledger.is_occupied(DB));
    ledger.backfiller_left(DB, 42, true, false, 23 * SECOND);
    assert!(!ledger.is_occupied(DB));
    assert!(!ledger.awaits_backfiller(DB, 100 * SECOND), "there is nothing to do");
}

#[test]
fn what_is_asked_for_while_it_looks_is_not_forgotten() {
    let mut ledger = ledger(0);
    ledger.database_mut(DB).unwrap().extension = Extension::Present;
    ledger.request_backfill(DB);
    assert!(ledger.awaits_backfiller(DB, 0) && ledger.backfiller_came(DB, 42, 4200, 0));
    ledger.backfiller_looks(DB);
    assert_eq!(ledger.request_backfill(DB), Wakes::of(Some(4200)));
    ledger.backfiller_left(DB, 42, true, false, 1);
    assert!(ledger.awaits_backfiller(DB, 1));
}

#[test]
fn one_that_crashes_comes_back_more_and_more_slowly() {
    let mut ledger = ledger(0);
    ledger.database_mut(DB).unwrap().extension = Extension::Present;
    ledger.request_backfill(DB);
    let (mut now, mut pauses) = (0, Vec::new());
    for _ in 0..9 {
        assert!(ledger.awaits_backfiller(DB, now) && ledger.backfiller_came(DB, 42, 4200, now));
        ledger.backfiller_looks(DB);
        ledger.backfiller_left(DB, 42, false, true, now);
        let at = ledger.backfiller(DB).starts_at().unwrap();
        pauses.push((at - now) / SECOND);
        assert!(!ledger.awaits_backfiller(DB, at - 1));
        now = at;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
}

#[test]
fn a_database_somebody_wants_is_left_and_entered_again() {
    let mut ledger = ledger(0);
    ledger.database_mut(DB).unwrap().extension = Extension::Present;
    ledger.request_backfill(DB);
    assert!(ledger.awaits_backfiller(DB, 0) && ledger.backfiller_came(DB, 42, 4200, 0));
    ledger.backfiller_looks(DB);
    let wakes = ledger.hold(DB, 60 * SECOND);
    assert!(wakes.iter().any(|latch| latch == 4200));
    ledger.backfiller_left(DB, 42, false, false, SECOND);
    assert!(!ledger.is_occupied(DB));
    assert!(!ledger.awaits_backfiller(DB, SECOND));
    ledger.unhold(DB);
    assert!(ledger.awaits_backfiller(DB, SECOND));
}

#[test]
fn it_is_woken_once_when_its_rows_have_gone_down() {
    let mut ledger = ledger(0);
    ledger.database_mut(DB).unwrap().extension = Extension::Present;
    ledger.request_backfill(DB);
    assert!(ledger.awaits_backfiller(DB, 0) && ledger.backfiller_came(DB, 42, 4200, 0));
    ledger.publish(1, DB, &[queued(7, -2000, -1001)], 0);
    ledger.backfiller_waits(DB, 500);
    let wakes = |ledger: &mut Ledger, rows| {
        ledger.publish(2, DB, &[removed(7, rows)], 0).iter().any(|latch| latch == 4200)
    };
    assert!(!wakes(&mut ledger, 499));
    assert!(wakes(&mut ledger, 1));
    assert!(!wakes(&mut ledger, 1));
}
