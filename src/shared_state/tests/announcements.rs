//! Announcements and pending commits, while many sessions commit at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;

use super::*;

#[test]
fn there_is_room_for_so_many_announcements_wherever_their_search_starts() {
    let (mut shared_state, announcements) = (shared_state(0), Announcements::new());
    let changes = [queued(1, 1024, 1024), queued(2, 1025, 1025)];
    let announce = |xid: usize| announcements.announce(7 * xid, xid as u32, DB, &changes, false);
    let announced: Vec<Announced> = (1..=COMMITTING / 2).map(announce).collect();
    assert!(announced.iter().all(|announced| announced.is_complete(&changes)));
    assert!(!announce(1000).is_complete(&changes), "there is no room");
    let mut seen: Vec<(u32, i32)> =
        shared_state.announced(&announcements, DB).map(|a| (a.xid, a.index_id)).collect();
    seen.sort_unstable();
    let expected: Vec<(u32, i32)> =
        (1..=COMMITTING as u32 / 2).flat_map(|xid| [(xid, 1), (xid, 2)]).collect();
    assert_eq!(seen, expected);
    announcements.take_back(&announced[0], &mut shared_state);
    assert!(announce(1000).is_complete(&changes));
}

/// Sessions commit rows, which become visible at some moment, and count them afterwards. Whoever holds the lock finds
/// each row that was visible before either announced or counted.
#[test]
fn no_visible_row_is_neither_announced_nor_counted() {
    const SESSIONS: u32 = 4;
    const COMMITS: u32 = 1_000;
    let announcements = Announcements::new();
    let locked = Mutex::new(shared_state(0));
    let visible: Vec<AtomicBool> = (0..=SESSIONS * COMMITS).map(|_| AtomicBool::new(false)).collect();
    let counted: Mutex<HashMap<u32, i64>> = Mutex::new(HashMap::new());
    let session = |number: u32| {
        for xid in (1..=COMMITS).map(|nth| number * COMMITS + nth) {
            let rows = i64::from(xid);
            let announced = announcements.announce(xid as usize, xid, DB, &[queued(1, 1, rows)], true);
            if xid % 7 > 0 {
                visible[xid as usize].store(true, Ordering::Release);
            }
            let mut shared_state = locked.lock().unwrap();
            announcements.take_back(&announced, &mut shared_state);
            if xid % 7 > 0 {
                counted.lock().unwrap().insert(xid, rows);
            }
        }
    };
    std::thread::scope(|scope| {
        let sessions: Vec<_> = (0..SESSIONS).map(|number| scope.spawn(move || session(number))).collect();
        while !sessions.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            std::thread::yield_now();
            let shared_state = locked.lock().unwrap();
            // The snapshot is taken first.
            let seen: Vec<u32> = (1..visible.len() as u32)
                .filter(|xid| visible[*xid as usize].load(Ordering::Acquire))
                .collect();
            let announced: HashMap<u32, i64> =
                shared_state.announced(&announcements, DB).map(|a| (a.xid, a.count.queued)).collect();
            let counted = counted.lock().unwrap();
            for xid in seen {
                let of = |rows: &HashMap<u32, i64>| rows.get(&xid).copied();
                assert_eq!(of(&announced).xor(of(&counted)), Some(i64::from(xid)));
            }
        }
    });
    assert_eq!(locked.lock().unwrap().announced(&announcements, DB).count(), 0);
}

#[test]
fn a_commit_of_rows_of_one_span_is_published_by_whoever_has_shared_state_next() {
    let (mut shared_state, announcements) = (shared_state(1), Announcements::new());
    shared_state.open_lane(DB, 1, false, 0);
    assert_eq!(next_span(&mut shared_state, HUNGRY, 0).map(|(_, span, ..)| span.lo), Some(i64::MIN));
    assert_eq!(next_span(&mut shared_state, HUNGRY, 0), None);
    let changes = [queued(1, 1024, 1026)];
    let announced = announcements.announce(3, 11, DB, &changes, true);
    assert!(shared_state.publish_pending(&announcements).is_none() && !announcements.has_pending());
    assert!(matches!(announcements.add_pending(announced, &changes, Commit { lsn: 700, at: 50 }), Ok(false)));
    assert!(announcements.has_pending());
    assert_eq!(
        shared_state.flush_target(&announcements),
        FlushTarget::All,
        "it is announced until it is published"
    );
    assert_eq!(shared_state.announced(&announcements, DB).count(), 1);
    let latches = shared_state.publish_pending(&announcements).unwrap();
    assert_eq!(latches.iter().collect::<Vec<_>>(), [1000]);
    assert!(shared_state.publish_pending(&announcements).is_none() && !announcements.has_pending());
    assert_eq!(shared_state.flush_target(&announcements), FlushTarget::Until(700));
    assert_eq!(shared_state.announced(&announcements, DB).count(), 0);
    let lane = shared_state.lane(0).unwrap();
    assert_eq!((lane.queued, lane.enqueued_total, lane.fresh_since), (3, 3, 50));
}

#[test]
fn a_commit_that_is_not_told_in_one_announcement_is_not_pending() {
    let announcements = Announcements::new();
    let commit = Commit { lsn: 700, at: 0 };
    let plain = queued(1, 1024, 1026);
    let mut apart = plain;
    apart.spans.add(4096, 4096);
    let others: [&[CommitDelta]; 5] = [
        &[plain, queued(2, 1027, 1027)],
        &[CommitDelta { removed: 1, ..plain }],
        &[CommitDelta { dead: 1, ..plain }],
        &[CommitDelta { repairs: 1, ..plain }],
        &[apart],
    ];
    for changes in others {
        let announced = announcements.announce(0, 11, DB, changes, false);
        assert!(announcements.add_pending(announced, changes, commit).is_err());
    }
    let announced = announcements.announce(0, 11, DB, &[plain], false);
    let more = CommitDelta { queued: 4, ..plain };
    assert!(
        announcements.add_pending(announced, &[more], commit).is_err(),
        "some came after the announcement"
    );
    assert!(announcements.add_pending(Announced::default(), &[plain], commit).is_err(), "there was no room");
    assert!(!announcements.has_pending());
}

/// Sessions add pending commits and try to take the lock, which somebody holds from time to time.
#[test]
fn no_commit_stays_unpublished_when_nobody_has_shared_state() {
    const SESSIONS: i64 = 4;
    const COMMITS: i64 = 5_000;
    let announcements = Announcements::new();
    let locked = Mutex::new(shared_state(0));
    let publish_pending = || {
        while announcements.has_pending() {
            let Ok(mut shared_state) = locked.try_lock() else { return };
            shared_state.publish_pending(&announcements);
        }
    };
    let session = |number: i64| {
        for nth in 1..=COMMITS {
            let id = (number * COMMITS + nth) * ID_BLOCK;
            let changes = [queued(1 + (nth % 3) as i32, id, id)];
            let announced = announcements.announce(number as usize, 1 + number as u32, DB, &changes, false);
            assert!(announced.is_complete(&changes));
            let commit = Commit { lsn: id as u64, at: 0 };
            match announcements.add_pending(announced, &changes, commit) {
                Ok(false) => publish_pending(),
                Ok(true) => {
                    locked.lock().unwrap().publish_pending(&announcements);
                    publish_pending();
                }
                Err(_) => panic!("it is of one span"),
            }
        }
    };
    std::thread::scope(|scope| {
        let sessions: Vec<_> = (0..SESSIONS).map(|number| scope.spawn(move || session(number))).collect();
        while !sessions.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            let shared_state = locked.lock().unwrap();
            std::thread::yield_now();
            drop(shared_state);
            publish_pending();
        }
    });
    assert!(!announcements.has_pending());
    let shared_state = locked.lock().unwrap();
    let queued: i64 = (0..3).map(|lane| shared_state.lane(lane).unwrap().queued).sum();
    assert_eq!(queued, SESSIONS * COMMITS);
    assert_eq!(shared_state.announced(&announcements, DB).count(), 0);
    let last = (SESSIONS * COMMITS * ID_BLOCK) as u64;
    assert_eq!(shared_state.flush_target(&announcements), FlushTarget::Until(last));
}

#[test]
fn whoever_adds_to_many_pending_commits_is_to_wait_until_they_are_published() {
    let (mut shared_state, announcements) = (shared_state(0), Announcements::new());
    let leave = |row: i64| {
        let changes = [queued(1, row * ID_BLOCK, row * ID_BLOCK)];
        let announced = announcements.announce(row as usize, row as u32, DB, &changes, false);
        announcements.add_pending(announced, &changes, Commit { lsn: 1, at: 0 }).ok()
    };
    let few = COMMITTING as i64 / 4;
    assert!((1..=few).all(|row| leave(row) == Some(false)));
    assert_eq!(leave(few + 1), Some(true));
    shared_state.publish_pending(&announcements);
    assert_eq!(leave(few + 2), Some(false));
    assert_eq!(shared_state.lane(0).unwrap().queued, few + 1);
}
