//! Processes that end, or run out of disk space, at the worst moment: between any two steps of delivery nothing is
//! lost, and nothing is sent that was not committed.

use audit_algolia_tests::server::StopMode;
use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use nix::sys::signal::Signal;

use crate::support::*;

/// The maximum record size of the stand-in.
const LIMIT: usize = 1000;

/// Where a counter has read part of the rows.
const MIDDLE: &str = "in the middle of a count";
const COUNTER: &str = "select pid from pg_stat_activity where backend_type = 'audit_algolia counter'";

/// Orders what the next process does that reaches a failpoint; see `src/pg/failpoint.rs`.
fn order(stage: &Stage, point: &str, action: &str) {
    std::fs::write(stage.cluster.data_dir().join("audit_algolia.failpoint"), format!("{point} {action}"))
        .unwrap();
}

fn wait_until_carried_out(stage: &Stage, point: &str) {
    let file = stage.cluster.data_dir().join("audit_algolia.failpoint");
    wait_until(&format!("somebody {point}"), SOON, || !file.exists());
}

fn stage() -> Stage {
    Stage::builder()
        .standin(|standin| standin.max_record_bytes = LIMIT)
        .setting("audit_algolia.retry_min", "10ms")
        .setting("audit_algolia.retry_max", "100ms")
        .start()
        .unwrap()
}

#[test]
fn whatever_ends_a_worker_at_whatever_moment_each_row_is_in_the_index_once() {
    let points = [
        "before claim",
        "in claim",
        "after claim",
        "after sending",
        "before settlement",
        "in settlement",
        "after settlement",
        "while dead-lettering",
    ];
    let stage = stage();
    drop(staged(&stage, "log"));
    let (mut next, mut poison) = (1, Vec::new());
    // After an error, the next start of a worker is delayed. A kill restarts the server, which ends the delay.
    for point in points {
        for action in ["error", "kill"] {
            let mut witness = stage.session();
            order(&stage, point, action);
            // If the session of the insert breaks, it is unknown whether the insert has committed. So it is repeated
            // until one succeeds.
            wait_until("an insert", SOON, || {
                let insert = "insert into log
                     select n, case when n = $1 then repeat('x', 2000) else 'note ' || n end
                     from generate_series($1::bigint, $1 + 99) as n
                     on conflict do nothing";
                stage.session().execute(insert, &[&next]).is_ok()
            });
            poison.push(next);
            next += 100;
            wait_until_carried_out(&stage, point);
            if action == "kill" {
                wait_until("the crash", SOON, || witness.batch_execute("select 1").is_err());
            }
            let mut db = stage.session();
            stage.wait_for_records("log", next as usize - 1 - poison.len());
            wait_for_empty_queue(&mut db);
            assert_holds(&stage.standin, "log", (1..next).filter(|id| !poison.contains(id)));
            let dead: i64 = one(&mut db, "select count(*) from audit_algolia.dead_letters");
            assert_eq!(dead, poison.len() as i64, "{point} {action}");
            assert_eq!(queue(&mut db, "log").dead, dead, "{point} {action}");
        }
    }
}

#[test]
fn a_record_that_a_raised_limit_lets_pass_is_sent_though_it_was_claimed_before() {
    let stage = Stage::builder()
        .setting("audit_algolia.max_record_bytes", 200)
        .setting("audit_algolia.workers", 1)
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    let mut admin = stage.admin();
    wait_for_workers(&mut admin, "postgres", 1);
    let worker = a_worker(&mut admin, "postgres");
    order(&stage, "after claim", "stop");
    db.batch_execute("insert into log values (1, repeat('x', 500))").unwrap();
    wait_until_carried_out(&stage, "after claim");
    stage.cluster.set(&[("audit_algolia.max_record_bytes", "1000")]).unwrap();
    wait_until("the new limit", SOON, || {
        one::<String>(&mut db, "show audit_algolia.max_record_bytes") == "1000B"
    });
    stage.cluster.kill_backend(worker, Signal::SIGCONT).unwrap();
    stage.wait_for_records("log", 1);
    wait_for_empty_queue(&mut db);
    assert_eq!(queue(&mut db, "log").dead, 0);
}

#[test]
fn a_writer_without_disk_hears_of_it_and_nothing_of_its_transaction_is_sent() {
    let stage = stage();
    let mut db = staged(&stage, "log");
    order(&stage, "in capture", "error");
    let error =
        db.batch_execute("insert into log select n, 'lost' from generate_series(1, 500) as n").unwrap_err();
    assert_eq!(error.code().unwrap().code(), "53100");
    insert(&mut db, "log", 1001..=1010);
    let mut witness = stage.session();
    order(&stage, "in capture", "kill");
    assert!(db
        .batch_execute("insert into log select n, 'lost' from generate_series(2001, 2500) as n")
        .is_err());
    wait_until("the crash", SOON, || witness.batch_execute("select 1").is_err());
    let mut db = stage.session();
    insert(&mut db, "log", 1011..=1020);
    stage.wait_for_records("log", 20);
    wait_for_empty_queue(&mut db);
    assert_holds(&stage.standin, "log", 1001..=1020);
}

#[test]
fn a_count_that_is_cut_short_is_made_again() {
    let stage = stage();
    let mut db = staged(&stage, "log");
    db.batch_execute("select audit_algolia.pause('log')").unwrap();
    insert(&mut db, "log", 1..=100);
    drop(db);
    for action in ["error", "kill"] {
        let mark = stage.cluster.log_mark();
        stage.cluster.stop(StopMode::Fast).unwrap();
        // While the server is down. Otherwise a count that is still running would follow the order.
        order(&stage, "in count", action);
        stage.cluster.start().unwrap();
        wait_until_carried_out(&stage, "in count");
        if action == "kill" {
            // The server ends all sessions when it notices. A session that began before would break.
            let restarts = "all server processes terminated; reinitializing";
            wait_until("the restart", SOON, || stage.cluster.log_since(mark).contains(restarts));
        }
        let mut db = stage.session();
        wait_until("a count", SOON, || {
            let log = stage.cluster.log();
            let counters =
                "select count(*) from pg_stat_activity where backend_type = 'audit_algolia counter'";
            log.contains("audit_algolia launcher started") && one::<i64>(&mut db, counters) == 0
        });
        assert_eq!(queue(&mut db, "log").queued, 100);
    }
    let mut db = stage.session();
    db.batch_execute("select audit_algolia.resume('log')").unwrap();
    stage.wait_for_records("log", 100);
    wait_for_empty_queue(&mut db);
}

#[test]
fn the_statistics_know_what_a_running_count_does_not() {
    let stage = stage();
    let mut db = staged(&stage, "log");
    db.batch_execute("select audit_algolia.pause('log')").unwrap();
    wait_for_state(&mut db, "log", "paused");
    insert(&mut db, "log", 1..=10);
    db.batch_execute("begin; insert into log select 11, 'later'; prepare transaction 'later'").unwrap();
    drop(db);
    stage.cluster.stop(StopMode::Fast).unwrap();
    // While the server is down. Otherwise a count that is still running would follow the order.
    order(&stage, MIDDLE, "stop");
    stage.cluster.start().unwrap();
    wait_until_carried_out(&stage, MIDDLE);
    let mut db = stage.session();
    // The count of the queue has its snapshot. What is committed now is in neither the count nor the counters.
    stage.admin().batch_execute("commit prepared 'later'").unwrap();
    assert_eq!(queue(&mut db, "log").queued, 11);
    // The counter counts two more tables, and then ends. The next counter begins with nothing yet.
    for point in [MIDDLE, MIDDLE, "in count"] {
        let stopped: i32 = one(&mut db, COUNTER);
        order(&stage, point, "stop");
        stage.cluster.kill_backend(stopped, Signal::SIGCONT).unwrap();
        wait_until_carried_out(&stage, point);
    }
    assert_eq!(queue(&mut db, "log").queued, 11);
    insert(&mut db, "log", 12..=12);
    assert_eq!(queue(&mut db, "log").queued, 12);
    let stopped: i32 = one(&mut db, COUNTER);
    stage.cluster.kill_backend(stopped, Signal::SIGCONT).unwrap();
    wait_until("a count", SOON, || db.query(COUNTER, &[]).unwrap().is_empty());
    assert_eq!(queue(&mut db, "log").queued, 12);
    db.batch_execute("select audit_algolia.resume('log')").unwrap();
    stage.wait_for_records("log", 12);
    wait_for_empty_queue(&mut db);
}

#[test]
fn a_count_gives_way_to_whoever_wants_the_table_and_is_made_again() {
    let stage = stage();
    let mut db = staged(&stage, "log");
    db.batch_execute("select audit_algolia.pause('log')").unwrap();
    wait_for_state(&mut db, "log", "paused");
    insert(&mut db, "log", 1..=20_001);
    order(&stage, MIDDLE, "stop");
    db.batch_execute("copy audit_algolia.dead_letter from program 'true'").unwrap();
    wait_until_carried_out(&stage, MIDDLE);
    let stopped: i32 = one(&mut db, COUNTER);
    std::thread::scope(|scope| {
        let locker = scope.spawn(|| {
            let mut locker = stage.session();
            locker.batch_execute("begin; lock table audit_algolia.queue").unwrap();
            locker
        });
        wait_until("somebody wants the queue", SOON, || {
            one::<bool>(&mut db, "select exists (select from pg_locks where not granted)")
        });
        stage.cluster.kill_backend(stopped, Signal::SIGCONT).unwrap();
        let mut locker = locker.join().unwrap();
        wait_until("the count is broken off", SOON, || {
            db.query(COUNTER, &[]).unwrap().iter().all(|row| row.get::<_, i32>(0) != stopped)
        });
        order(&stage, MIDDLE, "stop");
        locker.batch_execute("commit").unwrap();
    });
    wait_until_carried_out(&stage, MIDDLE);
    let again: i32 = one(&mut db, COUNTER);
    stage.cluster.kill_backend(again, Signal::SIGCONT).unwrap();
    wait_until("the count", SOON, || db.query(COUNTER, &[]).unwrap().is_empty());
    assert_eq!(queue(&mut db, "log").queued, 20_001);
}

#[test]
fn rows_that_come_past_capture_in_a_prepared_transaction_are_found_when_it_is_committed() {
    let stage = stage();
    let mut db = staged(&stage, "log");
    db.batch_execute("select audit_algolia.pause('log')").unwrap();
    wait_for_state(&mut db, "log", "paused");
    insert(&mut db, "log", 1..=1);
    // Until a first count has finished, statistics read the tables themselves.
    order(&stage, MIDDLE, "stop");
    db.batch_execute("copy audit_algolia.queue from program 'true'").unwrap();
    wait_until_carried_out(&stage, MIDDLE);
    let counter: i32 = one(&mut db, COUNTER);
    stage.cluster.kill_backend(counter, Signal::SIGCONT).unwrap();
    wait_until("the count", SOON, || db.query(COUNTER, &[]).unwrap().is_empty());
    db.batch_execute(
        "begin;
         copy audit_algolia.queue from program 'true';
         insert into audit_algolia.queue (index_id, source, id, enqueued_at, action, record)
         select index_id, source, id + n, enqueued_at, action, replace(record, '1', (n + 1)::text)
         from audit_algolia.queue, generate_series(1, 7) as n;
         prepare transaction 'restored'",
    )
    .unwrap();
    db.batch_execute("commit prepared 'restored'").unwrap();
    wait_until("the count", SOON, || queue(&mut db, "log").queued == 8);
    db.batch_execute("select audit_algolia.resume('log')").unwrap();
    stage.wait_for_records("log", 8);
    wait_for_empty_queue(&mut db);
    assert_eq!(queue(&mut db, "log").queued, 0);
}
