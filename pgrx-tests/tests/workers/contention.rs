//! Many workers, many requests, many writers: each row once.

use std::thread;
use std::time::Duration;

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{Fault, FaultRule, Times};
use audit_algolia_tests::wait::wait_until;

use crate::support::*;

const WRITERS: i64 = 8;
const TRANSACTIONS: i64 = 60;

/// One writer's transactions: small ones, some of them rolled back, some with a savepoint rolled back. Returns the
/// committed ids.
fn write(stage: &Stage, writer: i64, seed: u64) -> Vec<i64> {
    let mut dice = fastrand(seed ^ writer as u64);
    let mut db = stage.admin();
    let mut kept = Vec::new();
    let mut next = (writer + 1) * 1_000_000;
    for _ in 0..TRANSACTIONS {
        let rows = 1 + dice() as i64 % 30;
        let ids = next..=next + rows - 1;
        next += rows;
        match dice() % 8 {
            0 => {
                db.batch_execute("begin").unwrap();
                insert(&mut db, "log", ids);
                db.batch_execute("rollback").unwrap();
            }
            1 => {
                let undone = next..=next;
                next += 1;
                db.batch_execute("begin").unwrap();
                insert(&mut db, "log", ids.clone());
                db.batch_execute("savepoint s").unwrap();
                insert(&mut db, "log", undone);
                db.batch_execute("rollback to s; commit").unwrap();
                kept.extend(ids);
            }
            _ => {
                insert(&mut db, "log", ids.clone());
                kept.extend(ids);
            }
        }
    }
    kept
}

/// A small sequence that the seed determines.
fn fastrand(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 11
    }
}

#[test]
fn four_workers_send_each_row_once() {
    let stage = Stage::builder()
        .setting("audit_algolia.workers", 4)
        .setting("audit_algolia.in_flight", 4)
        .setting("audit_algolia.batch_rows", 7)
        .setting("max_worker_processes", 16)
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    wait_for_workers(&mut db, "postgres", 4);
    let mut expected: Vec<i64> = Vec::new();
    for (seed, latency) in [(1, 0), (2, 1), (3, 4), (4, 0)] {
        stage.standin.set_latency(Duration::from_millis(latency));
        let backlog = seed * 10_000..=seed * 10_000 + 4_999;
        db.batch_execute("select audit_algolia.pause('log')").unwrap();
        insert(&mut db, "log", backlog.clone());
        expected.extend(backlog);
        db.batch_execute("select audit_algolia.resume('log')").unwrap();
        let written = thread::scope(|scope| {
            let running: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let stage = &stage;
                    scope.spawn(move || write(stage, writer + WRITERS * seed, seed as u64))
                })
                .collect();
            running.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
        });
        expected.extend(written);
        wait_until("all rows", 3 * SOON, || stage.standin.operations("log") >= expected.len() as u64);
        wait_for_empty_queue(&mut db);
    }
    let rows = expected.len() as i64;
    assert_each_once(&stage.standin, "log", expected);
    let seen = queue(&mut db, "log");
    assert_eq!((seen.enqueued_total, seen.delivered_total), (rows, rows));
    assert_eq!((seen.failed_total, seen.retrying), (0, 0));
    assert!(stage.standin.batches("log").iter().all(|batch| batch.len() <= 7));
    assert_no_faults(&stage.cluster);
}

#[test]
fn a_backlog_is_shared_among_all_workers() {
    let stage = Stage::builder()
        .setting("audit_algolia.workers", 3)
        .setting("audit_algolia.in_flight", 2)
        .setting("audit_algolia.batch_rows", 10)
        .standin(|standin| standin.latency = Duration::from_millis(20))
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    wait_for_workers(&mut db, "postgres", 3);
    // A single commit wakes a single worker, which must not keep it all to itself.
    insert(&mut db, "log", 1..=2000);
    stage.wait_for_records("log", 2000);
    let counts = db.query("select rows_total from audit_algolia.worker_stats()", &[]).unwrap();
    assert_eq!(counts.len(), 3);
    for count in counts {
        assert!(count.get::<_, i64>(0) >= 200, "{count:?}");
    }
    assert_each_once(&stage.standin, "log", 1..=2000);
}

#[test]
fn more_rows_than_can_be_claimed_at_once_are_delivered_all_the_same() {
    let stage = Stage::builder()
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.in_flight", 32)
        .setting("audit_algolia.batch_rows", 10_000)
        .standin(|standin| {
            standin.latency = Duration::from_millis(1500);
            standin.light = true;
            standin.light_ids = true;
        })
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    insert(&mut db, "log", 1..=180_000);
    wait_until("all rows", 3 * SOON, || stage.standin.operations("log") >= 180_000);
    wait_for_empty_queue(&mut db);
    assert_eq!(stage.standin.operations("log"), 180_000);
}

#[test]
fn rows_that_somebody_has_locked_hold_up_nothing_but_themselves() {
    let stage = Stage::builder().setting("audit_algolia.workers", 1).start().unwrap();
    let mut db = staged(&stage, "log");
    watch(&mut db, "other");
    wait_for_state(&mut db, "other", "idle");
    let fault = Fault::HangFor(Duration::from_millis(600));
    stage.standin.inject(FaultRule::new(fault, Times::Once).index("log").writes());
    insert(&mut db, "log", 1..=100);
    wait_until("a batch on its way", SOON, || queue(&mut db, "log").in_flight == 100);
    let mut outsider = stage.admin();
    outsider.batch_execute("begin; select * from audit_algolia.queue where id % 2 = 0 for update").unwrap();
    stage.wait_for_records("log", 100);
    insert(&mut db, "other", 1..=100);
    insert(&mut db, "log", 101..=200);
    stage.wait_for_records("other", 100);
    stage.wait_for_records("log", 200);
    wait_until("half of the batch settled", SOON, || {
        queue(&mut db, "log").queued == 50 && queue(&mut db, "other").queued == 0
    });
    let left = one::<i64>(&mut db, "select count(*) from audit_algolia.queue where id % 2 = 0");
    assert_eq!(left, 50);
    outsider.batch_execute("commit").unwrap();
    wait_for_empty_queue(&mut db);
    assert_eq!(queue(&mut db, "log").queued, 0);
    assert_holds(&stage.standin, "log", 1..=200);
}
