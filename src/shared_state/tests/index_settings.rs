//! Settings of indices: which are next, and that none overtakes another.

use super::*;

const INDEX: i32 = 3;

/// A shared state with two workers and one index.
fn shared_state() -> Box<SharedState> {
    let mut shared_state = super::shared_state(2);
    shared_state.lane_mut(DB, INDEX);
    shared_state
}

#[test]
fn one_worker_at_a_time_sends_settings() {
    let mut shared_state = shared_state();
    assert_eq!((shared_state.next_settings(0, 10), shared_state.settings_due(0)), (None, None));
    shared_state.want_settings(DB, &[(INDEX, 7)], 10);
    assert_eq!(shared_state.settings_due(0), Some(10));
    assert_eq!(shared_state.next_settings(0, 9), None);
    assert_eq!(shared_state.next_settings(0, 10), Some((INDEX, 7)));
    // Not even the same worker gets them twice, and nobody is woken for them.
    assert_eq!((shared_state.next_settings(0, 10), shared_state.next_settings(1, 10)), (None, None));
    assert_eq!(shared_state.settings_due(1), None);
    shared_state.settings_back(0, INDEX, SettingsResult::Done { version: 7 });
    assert_eq!((shared_state.next_settings(1, 99), shared_state.settings_due(1)), (None, None));
}

#[test]
fn a_newer_version_has_its_turn_when_the_older_is_back() {
    let mut shared_state = shared_state();
    shared_state.want_settings(DB, &[(INDEX, 7)], 10);
    shared_state.next_settings(0, 10);
    shared_state.want_settings(DB, &[(INDEX, 8)], 20);
    assert_eq!(shared_state.next_settings(1, 20), None);
    shared_state.settings_back(0, INDEX, SettingsResult::Done { version: 7 });
    assert_eq!(shared_state.next_settings(1, 20), Some((INDEX, 8)));
}

#[test]
fn failed_settings_wait_and_fixed_ones_do_not() {
    let mut shared_state = shared_state();
    shared_state.want_settings(DB, &[(INDEX, 7)], 10);
    shared_state.next_settings(0, 10);
    shared_state.settings_back(0, INDEX, SettingsResult::Again { at: 50 });
    assert_eq!((shared_state.settings_failures(DB, INDEX), shared_state.settings_due(1)), (1, Some(50)));
    // Reading the same version again changes nothing.
    shared_state.want_settings(DB, &[(INDEX, 7)], 20);
    assert_eq!(shared_state.next_settings(1, 49), None);
    shared_state.retry_all(DB, 0);
    assert_eq!(shared_state.next_settings(1, 20), Some((INDEX, 7)));
    shared_state.settings_back(1, INDEX, SettingsResult::Anew { at: 30 });
    assert_eq!((shared_state.settings_failures(DB, INDEX), shared_state.settings_due(0)), (0, Some(30)));
    shared_state.want_settings(DB, &[(INDEX, 9)], 21);
    assert_eq!(shared_state.next_settings(0, 21), Some((INDEX, 9)));
}

#[test]
fn what_a_dead_worker_was_sending_is_free_again() {
    let mut shared_state = shared_state();
    shared_state.want_settings(DB, &[(INDEX, 7)], 10);
    shared_state.next_settings(0, 10);
    shared_state.release_worker(0, 0);
    assert_eq!(shared_state.next_settings(1, 10), Some((INDEX, 7)));
}

#[test]
fn a_paused_index_is_left_alone_and_one_that_is_gone_forgotten() {
    let mut shared_state = shared_state();
    shared_state.want_settings(DB, &[(INDEX, 7), (4, 8)], 10);
    shared_state.lane_mut(DB, INDEX).unwrap().paused = true;
    assert_eq!((shared_state.next_settings(0, 10), shared_state.settings_due(0)), (None, None));
    shared_state.lane_mut(DB, INDEX).unwrap().paused = false;
    assert_eq!(shared_state.settings_due(0), Some(10));
    shared_state.want_settings(DB, &[], 11);
    assert_eq!((shared_state.next_settings(0, 11), shared_state.settings_due(0)), (None, None));
}
