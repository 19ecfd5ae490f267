//! Settings of indices: whose turn it is, and that nobody overtakes.

use super::*;

const INDEX: i32 = 3;

/// A ledger with two workers and one index.
fn ledger() -> Box<Ledger> {
    let mut ledger = super::ledger(2);
    ledger.lane_mut(DB, INDEX);
    ledger
}

#[test]
fn one_worker_at_a_time_sends_settings() {
    let mut ledger = ledger();
    assert_eq!((ledger.next_settings(0, 10), ledger.settings_due(0)), (None, None));
    ledger.want_settings(DB, &[(INDEX, 7)], 10);
    assert_eq!(ledger.settings_due(0), Some(10));
    assert_eq!(ledger.next_settings(0, 9), None);
    assert_eq!(ledger.next_settings(0, 10), Some((INDEX, 7)));
    // Not even the same one twice, and nobody wakes up for them.
    assert_eq!((ledger.next_settings(0, 10), ledger.next_settings(1, 10)), (None, None));
    assert_eq!(ledger.settings_due(1), None);
    ledger.settings_back(0, INDEX, Sent::Done { version: 7 });
    assert_eq!((ledger.next_settings(1, 99), ledger.settings_due(1)), (None, None));
}

#[test]
fn a_newer_version_has_its_turn_when_the_older_is_back() {
    let mut ledger = ledger();
    ledger.want_settings(DB, &[(INDEX, 7)], 10);
    ledger.next_settings(0, 10);
    ledger.want_settings(DB, &[(INDEX, 8)], 20);
    assert_eq!(ledger.next_settings(1, 20), None);
    ledger.settings_back(0, INDEX, Sent::Done { version: 7 });
    assert_eq!(ledger.next_settings(1, 20), Some((INDEX, 8)));
}

#[test]
fn failed_settings_wait_and_mended_ones_do_not() {
    let mut ledger = ledger();
    ledger.want_settings(DB, &[(INDEX, 7)], 10);
    ledger.next_settings(0, 10);
    ledger.settings_back(0, INDEX, Sent::Again { at: 50 });
    assert_eq!((ledger.settings_failures(DB, INDEX), ledger.settings_due(1)), (1, Some(50)));
    // The same version read again changes nothing.
    ledger.want_settings(DB, &[(INDEX, 7)], 20);
    assert_eq!(ledger.next_settings(1, 49), None);
    ledger.retry_all(DB, 0);
    assert_eq!(ledger.next_settings(1, 20), Some((INDEX, 7)));
    ledger.settings_back(1, INDEX, Sent::Anew { at: 30 });
    assert_eq!((ledger.settings_failures(DB, INDEX), ledger.settings_due(0)), (0, Some(30)));
    ledger.want_settings(DB, &[(INDEX, 9)], 21);
    assert_eq!(ledger.next_settings(0, 21), Some((INDEX, 9)));
}

#[test]
fn what_a_dead_worker_was_sending_is_free_again() {
    let mut ledger = ledger();
    ledger.want_settings(DB, &[(INDEX, 7)], 10);
    ledger.next_settings(0, 10);
    ledger.resign(0, 0);
    assert_eq!(ledger.next_settings(1, 10), Some((INDEX, 7)));
}

#[test]
fn a_paused_index_is_left_alone_and_one_that_is_gone_forgotten() {
    let mut ledger = ledger();
    ledger.want_settings(DB, &[(INDEX, 7), (4, 8)], 10);
    ledger.lane_mut(DB, INDEX).unwrap().paused = true;
    assert_eq!((ledger.next_settings(0, 10), ledger.settings_due(0)), (None, None));
    ledger.lane_mut(DB, INDEX).unwrap().paused = false;
    assert_eq!(ledger.settings_due(0), Some(10));
    ledger.want_settings(DB, &[], 11);
    assert_eq!((ledger.next_settings(0, 11), ledger.settings_due(0)), (None, None));
}
