//! Blocks of ids: in order, each once, and never of another sequence.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::Mutex;

use super::*;

/// The next block, and how many are left then.
fn take(reserves: &IdReserves, database: u32, sequence: u32) -> Option<(i64, i64)> {
    reserves.take_block(database, sequence).map(|taken| (taken.block, taken.left))
}

#[test]
fn blocks_are_taken_in_order_each_once() {
    let reserves = IdReserves::new();
    assert_eq!(reserves.take_block(DB, 7), None);
    assert!(!reserves.put(DB, 7, &(5..8)), "there is no entry");
    assert!(reserves.make_room(DB, 7) && reserves.put(DB, 7, &(5..8)));
    let taken: Vec<_> = (0..4).map(|_| take(&reserves, DB, 7)).collect();
    assert_eq!(taken, [Some((5, 2)), Some((6, 1)), Some((7, 0)), None]);
}

#[test]
fn databases_and_sequences_have_nothing_in_common() {
    let reserves = IdReserves::new();
    for (database, blocks) in [(DB, 5..8), (DB + 1, 1..2)] {
        assert!(reserves.make_room(database, 7) && reserves.put(database, 7, &blocks));
    }
    assert_eq!(take(&reserves, DB + 1, 7).map(|taken| taken.0), Some(1));
    assert_eq!(reserves.take_block(DB, 8), None, "of an extension made anew");
    assert!(reserves.make_room(DB, 8) && reserves.put(DB, 8, &(1..3)));
    assert_eq!(reserves.take_block(DB, 7), None, "the older sequence stands at the end of its reserve");
    assert_eq!(take(&reserves, DB, 8).map(|taken| taken.0), Some(1));
}

#[test]
fn what_may_be_outdated_is_forgotten() {
    let reserves = IdReserves::new();
    assert!(reserves.make_room(DB, 7) && reserves.put(DB, 7, &(5..8)));
    reserves.drop_blocks(DB);
    assert_eq!(reserves.take_block(DB, 7), None);
    assert_eq!(reserves.end_of(DB, 7), 8, "what was handed out is not forgotten");
    assert_eq!(reserves.end_of(DB, 8), 0, "of an extension made anew");
    assert!(reserves.put(DB, 7, &(8..11)));
    reserves.forget(DB);
    assert_eq!(reserves.take_block(DB, 7), None);
}

#[test]
fn a_database_for_which_there_is_no_room_has_nothing_in_reserve() {
    let reserves = IdReserves::new();
    let has_room = |database: u32| reserves.make_room(database, 7);
    assert!((1..=DATABASES as u32).all(has_room));
    assert!(!has_room(1000) && !reserves.put(1000, 7, &(0..2)));
    reserves.forget(1);
    assert!(has_room(1000) && reserves.put(1000, 7, &(0..2)));
    assert_eq!(take(&reserves, 1000, 7).map(|taken| taken.0), Some(0));
}

#[test]
fn blocks_beyond_what_a_double_represents_are_not_kept() {
    let reserves = IdReserves::new();
    assert!(reserves.make_room(DB, 7));
    assert!(reserves.put(DB, 7, &((1 << 47) - 1..(1 << 47) + 1)));
    assert_eq!(take(&reserves, DB, 7).map(|taken| taken.0), Some((1 << 47) - 1));
    assert!(!reserves.put(DB, 7, &(1 << 47..(1 << 47) + 1)) && !reserves.put(DB, 7, &(0..1 << 16)));
    assert_eq!(take(&reserves, DB, 7).map(|taken| taken.0), Some(1 << 47));
}

/// Sessions take blocks and refill the reserve when it is empty, while restores drop it.
#[test]
fn no_block_is_handed_out_twice_and_none_after_a_higher_one() {
    let (reserves, sequence, refilling) = (IdReserves::new(), AtomicI64::new(0), Mutex::new(()));
    let refill = || {
        let _alone = refilling.lock().unwrap();
        reserves.take_block(DB, 7).map_or_else(
            || {
                assert!(reserves.make_room(DB, 7));
                let last = sequence.load(Ordering::Relaxed).max(reserves.end_of(DB, 7) - 1);
                sequence.store(last + 20, Ordering::Relaxed);
                assert!(reserves.put(DB, 7, &(last + 2..last + 21)));
                last + 1
            },
            |taken| taken.block,
        )
    };
    let session = || {
        let take = |_| reserves.take_block(DB, 7).map_or_else(refill, |taken| taken.block);
        (0..20_000).map(take).collect::<Vec<i64>>()
    };
    let restores = || {
        for _ in 0..2_000 {
            reserves.drop_blocks(DB);
            // The sequence is set back to its value at the time of the dump.
            sequence.fetch_min(1, Ordering::Relaxed);
            std::thread::yield_now();
        }
    };
    let taken: Vec<Vec<i64>> = std::thread::scope(|scope| {
        let sessions: Vec<_> = (0..4).map(|_| scope.spawn(session)).collect();
        scope.spawn(restores);
        sessions.into_iter().map(|session| session.join().unwrap()).collect()
    });
    for blocks in &taken {
        assert!(blocks.windows(2).all(|pair| pair[0] < pair[1]), "a session's blocks are in order");
    }
    let all: HashSet<i64> = taken.iter().flatten().copied().collect();
    assert_eq!(all.len(), 80_000);
}
