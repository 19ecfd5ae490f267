//! Commits, prepared transactions and recounts: queued rows are counted exactly.

use super::*;

#[test]
fn rows_leave_when_the_log_is_on_disk_up_to_their_commit() {
    let (mut shared_state, announcements) = (shared_state(0), Announcements::new());
    let change = queued(1, 1024, 1026);
    let announce = |xid, change, is_lazy| announcements.announce(0, xid, DB, &[change], is_lazy);
    assert_eq!(shared_state.flush_target(&announcements), FlushTarget::Until(0));
    // While it commits, it may be visible, and its position in the WAL is unknown.
    let (lazy, patient) = (announce(11, change, true), announce(12, change, false));
    assert_eq!(shared_state.flush_target(&announcements), FlushTarget::All);
    shared_state.note_commit_lsn(700);
    announcements.take_back(&lazy, &mut shared_state);
    assert_eq!(shared_state.flush_target(&announcements), FlushTarget::Until(700));
    shared_state.note_commit_lsn(600);
    announcements.take_back(&patient, &mut shared_state);
    assert_eq!(shared_state.flush_target(&announcements), FlushTarget::Until(700));
    // A transaction that only removes rows has nothing that could be delivered.
    let removes = announce(13, CommitDelta { queued: 0, removed: 3, ..change }, true);
    assert!(removes.is_complete(&[change]));
    assert_eq!(shared_state.flush_target(&announcements), FlushTarget::Until(700));
}

#[test]
fn a_recount_is_exact_while_transactions_commit() {
    let (mut shared_state, announcements) = (shared_state(0), Announcements::new());
    let (index, rows) = (1, |change: CommitDelta| change.queued);
    // Ten rows from before the server started, which nobody has counted.
    let (early, late) = (queued(index, 1024, 1026), queued(index, 2048, 2052));
    let first = announcements.announce(0, 11, DB, &[early], false);
    let second = announcements.announce(0, 12, DB, &[late], false);
    // The snapshot sees the first transaction, which is not published yet, but not the second.
    let announced = shared_state.announced(&announcements, DB).find(|a| a.xid == 11).unwrap();
    let expected = HashMap::from([(index, announced.count)]);
    let counted = HashMap::from([(index, Count { queued: 10 + rows(early), dead: 7, repairs: 0 })]);
    // Both are published while the count is running.
    for (announced, change) in [(second, late), (first, early)] {
        announcements.take_back(&announced, &mut shared_state);
        shared_state.publish(DB, &[change], 0);
    }
    shared_state.correct_counts(DB, &expected, &counted);
    assert_eq!(shared_state.lane(0).unwrap().queued, 10 + rows(early) + rows(late));
    assert_eq!(shared_state.lane(0).unwrap().dead, 7);
    assert_eq!(shared_state.announced(&announcements, DB).count(), 0);
}

#[test]
fn a_commit_that_was_not_announced_asks_for_a_count_when_it_is_published() {
    let mut shared_state = shared_state(0);
    shared_state.launcher_latch = 900;
    let change = |row: i64| queued(1, row * ID_BLOCK, row * ID_BLOCK);
    let recount = |shared_state: &mut SharedState| shared_state.database_mut(DB).unwrap().recount;
    assert_eq!(shared_state.publish(DB, &[change(1)], 0).iter().count(), 0);
    assert!(!recount(&mut shared_state));
    let latches = shared_state.publish_unannounced(DB, &[change(2)], 0);
    assert!(recount(&mut shared_state));
    assert_eq!(latches.iter().collect::<Vec<_>>(), [900], "the launcher sees to it");
}

#[test]
fn forgotten_prepared_transactions_leave_room_for_those_that_commit() {
    let (mut shared_state, announcements) = (shared_state(0), Announcements::new());
    for xid in 1..=PREPARED as u32 + 1 {
        shared_state.prepare(u64::from(xid), xid, DB, &[queued(1, 1024, 1024)], false);
    }
    assert_eq!(shared_state.announced(&announcements, DB).count(), PREPARED);
    let changes = [queued(1, 4096, 4096)];
    assert!(announcements.announce(0, 1000, DB, &changes, false).is_complete(&changes));
}

#[test]
fn a_counter_that_is_off_in_either_direction_is_put_right_by_a_count() {
    for everything in [false, true] {
        let mut shared_state = shared_state(1);
        shared_state.open_lane(DB, 1, false, 0);
        shared_state.lane_at(0).unwrap().backlog.clear();
        let mut asks = |queued, in_flight| {
            let lane = shared_state.lane_at(0).unwrap();
            (lane.queued, lane.in_flight) = (queued, in_flight);
            lane.backlog.clear();
            shared_state.sweep(DB, everything);
            std::mem::take(&mut shared_state.database_mut(DB).unwrap().recount)
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
fn a_prepared_transaction_is_published_when_it_is_committed() {
    let mut shared_state = shared_state(1);
    shared_state.prepare(77, 11, DB, &[queued(1, 1024, 1026), queued(2, 1027, 1027)], false);
    assert_eq!(next_span(&mut shared_state, HUNGRY, 0), None);
    assert_eq!(
        shared_state.announced(&Announcements::new(), DB).count(),
        2,
        "a recount knows of its rows until they are counted"
    );
    shared_state.commit_prepared(77, DB, 0);
    assert_eq!(shared_state.announced(&Announcements::new(), DB).count(), 0);
    let queued: Vec<i64> = (0..2).map(|lane| shared_state.lane(lane).unwrap().queued).collect();
    assert_eq!(queued, vec![3, 1]);
    assert!(next_span(&mut shared_state, HUNGRY, 0).is_some());
    assert!(!shared_state.database_mut(DB).unwrap().recount);
}

#[test]
fn a_prepared_transaction_nobody_remembers_has_the_queue_read_again() {
    let mut shared_state = shared_state(1);
    shared_state.open_lane(DB, 1, false, 0);
    shared_state.lane_at(0).unwrap().backlog.clear();
    shared_state.commit_prepared(77, DB, 0);
    assert!(shared_state.database_mut(DB).unwrap().recount);
    assert_eq!(next_span(&mut shared_state, HUNGRY, 0).unwrap().1, Span { lo: i64::MIN, hi: i64::MAX });
}

#[test]
fn a_prepared_transaction_rolled_back_or_empty_leaves_nothing() {
    let mut shared_state = shared_state(1);
    shared_state.prepare(77, 11, DB, &[queued(1, 1024, 1026)], false);
    shared_state.rollback_prepared(77, DB);
    shared_state.prepare(78, 12, DB, &[], false);
    shared_state.commit_prepared(78, DB, 0);
    assert_eq!(
        (
            shared_state.announced(&Announcements::new(), DB).count(),
            shared_state.database_mut(DB).unwrap().recount
        ),
        (0, false)
    );
    assert_eq!(next_span(&mut shared_state, HUNGRY, 0), None);
}

#[test]
fn workers_and_launcher_look_when_a_prepared_transaction_has_changed_more_than_rows() {
    let mut shared_state = shared_state(1);
    shared_state.begin_extension_check(0);
    assert_eq!(shared_state.finish_extension_check(0, 70).0, ExtensionCheck::Serve);
    shared_state.prepare(77, 11, DB, &[], true);
    assert!(!shared_state.workers[0].stale);
    let latches = shared_state.commit_prepared(77, DB, 0);
    assert!(shared_state.workers[0].stale);
    assert_eq!(shared_state.database_mut(DB).unwrap().extension, Extension::Unknown);
    assert_eq!(latches.iter().collect::<Vec<_>>(), vec![1000]);
}

#[test]
fn a_count_that_keeps_failing_is_made_more_and_more_rarely() {
    let mut shared_state = shared_state(0);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        shared_state.counter_ended(DB, true, 0);
        pauses.push(shared_state.database_mut(DB).unwrap().recount_at / 1_000_000);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    shared_state.counter_ended(DB, false, 0);
    shared_state.counter_ended(DB, true, 0);
    assert_eq!(shared_state.database_mut(DB).unwrap().recount_at, 1_000_000);
}

#[test]
fn a_commit_to_a_paused_index_wakes_nobody() {
    let mut shared_state = shared_state(1);
    shared_state.open_lane(DB, 1, true, 0);
    assert_eq!(next_span(&mut shared_state, HUNGRY, 0), None);
    assert_eq!(shared_state.publish(DB, &[queued(1, 1024, 1030)], 0).iter().count(), 0);
    shared_state.open_lane(DB, 1, false, 0);
    assert_eq!(shared_state.publish(DB, &[queued(1, 2048, 2048)], 0).iter().count(), 1);
}

#[test]
fn a_commit_to_an_index_that_backs_off_wakes_nobody_before_its_time() {
    let mut shared_state = shared_state(1);
    shared_state.open_lane(DB, 1, false, 0);
    shared_state.lane_at(0).unwrap().backlog.clear();
    shared_state.lane_at(0).unwrap().back_off(LaneFailure::Retry, 0, "503", (0, 500), 1);
    assert_eq!(wait_until(&mut shared_state, HUNGRY, 2), Some(500), "also if nothing waits yet");
    assert_eq!(shared_state.publish(DB, &[queued(1, 1024, 1030)], 499).iter().count(), 0);
    assert_eq!(shared_state.publish(DB, &[queued(1, 2048, 2048)], 500).iter().count(), 1);
}

#[test]
fn a_count_that_misses_rows_of_unknown_number_does_not_count_as_exact() {
    let is_counted = |shared_state: &SharedState| shared_state.lane(0).unwrap().counted;
    let mut shared_state = shared_state(0);
    shared_state.publish(DB, &[queued(1, 1024, 1024)], 0);
    shared_state.database_mut(DB).unwrap().count_begins(0);
    // COMMIT PREPARED of a transaction that was prepared before the server started.
    shared_state.commit_prepared(7, DB, 0);
    shared_state.counted(DB);
    assert!(!is_counted(&shared_state), "the rows may not be in the snapshot of the count");
    shared_state.database_mut(DB).unwrap().count_begins(0);
    shared_state.counted(DB);
    assert!(is_counted(&shared_state));
    // Until the next count, the counters are wrong again.
    shared_state.commit_prepared(8, DB, 0);
    assert!(!is_counted(&shared_state));
}
