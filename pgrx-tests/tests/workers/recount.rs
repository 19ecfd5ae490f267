//! The counters after a restart are exact again, whatever happens meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use audit_algolia_tests::server::StopMode;
use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;

use crate::support::*;

/// Whether the statistics agree with the table at a moment when nobody writes.
fn is_exact(db: &mut postgres::Client) -> bool {
    let rows: i64 = one(db, "select count(*) from audit_algolia.queue");
    queue(db, "log").queued == rows
}

#[test]
fn a_backlog_is_counted_again_after_each_kind_of_restart() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    db.batch_execute("select audit_algolia.pause('log')").unwrap();
    wait_for_state(&mut db, "log", "paused");
    insert(&mut db, "log", 1..=1234);
    drop(db);
    for mode in [StopMode::Fast, StopMode::Immediate] {
        stage.cluster.restart(mode).unwrap();
        let mut db = stage.admin();
        // Exact from the first moment on, and when the counters are used again.
        assert_eq!(queue(&mut db, "log").queued, 1234);
        wait_for_state(&mut db, "log", "paused");
        insert(&mut db, "log", 2001..=2001);
        assert!(is_exact(&mut db));
        db.batch_execute(
            "delete from log where id = 2001; delete from audit_algolia.queue where record like '%2001%'",
        )
        .unwrap();
    }
}

#[test]
fn a_count_is_exact_while_others_write_and_deliver() {
    let stage = Stage::builder().setting("audit_algolia.batch_rows", 50).start().unwrap();
    let mut db = staged(&stage, "log");
    db.batch_execute("select audit_algolia.pause('log')").unwrap();
    wait_for_state(&mut db, "log", "paused");
    insert(&mut db, "log", 1..=40_000);
    drop(db);
    stage.cluster.restart(StopMode::Fast).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 1..=4 {
            let (stage, stop) = (&stage, &stop);
            scope.spawn(move || {
                let mut db = stage.admin();
                let mut id = writer * 1_000_000;
                while !stop.load(Ordering::Relaxed) {
                    db.batch_execute("begin").unwrap();
                    insert(&mut db, "log", id..=id + 2);
                    let end = if id % 4 == 0 { "rollback" } else { "commit" };
                    db.batch_execute(end).unwrap();
                    id += 3;
                }
            });
        }
        let mut db = stage.admin();
        // COMMIT PREPARED causes a count, so this is repeated.
        for round in 0..15 {
            db.batch_execute("begin").unwrap();
            insert(&mut db, "log", 100_000 + round..=100_000 + round);
            db.batch_execute("prepare transaction 'p'").unwrap();
            db.batch_execute("commit prepared 'p'").unwrap();
            if round == 5 {
                db.batch_execute("select audit_algolia.resume('log')").unwrap();
            }
            if round == 10 {
                db.batch_execute("select audit_algolia.pause('log')").unwrap();
            }
            wait_until("the count to end", SOON, || {
                one::<i64>(
                    &mut db,
                    "select count(*) from pg_stat_activity where backend_type = 'audit_algolia counter'",
                ) == 0
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
    let mut db = stage.admin();
    wait_until("the flights to land", SOON, || queue(&mut db, "log").in_flight == 0);
    wait_until("an exact count", SOON, || is_exact(&mut db));
    db.batch_execute("select audit_algolia.resume('log')").unwrap();
    wait_until("all rows", 3 * SOON, || queue(&mut db, "log").queued == 0);
    wait_for_empty_queue(&mut db);
}
