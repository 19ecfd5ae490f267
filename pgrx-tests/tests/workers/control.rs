//! pause, resume, flush, reset_stats, and the states in the statistics.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{Fault, Times};
use audit_algolia_tests::wait::{stays_true, wait_until};

use crate::support::*;

#[test]
fn a_pause_holds_until_it_is_resumed() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    watch(&mut db, "other");
    wait_for_state(&mut db, "log", "idle");
    db.batch_execute("select audit_algolia.pause()").unwrap();
    wait_for_state(&mut db, "other", "paused");
    insert(&mut db, "log", 1..=10);
    insert(&mut db, "other", 1..=10);
    db.batch_execute("select audit_algolia.resume('other')").unwrap();
    stage.wait_for_records("other", 10);
    stays_true("nothing sent", Duration::from_millis(200), || sent(&stage.standin, "log").is_empty());
    // A pause that is rolled back has no effect, and neither has a resume.
    db.batch_execute("begin; select audit_algolia.resume(); rollback").unwrap();
    stays_true("nothing sent", Duration::from_millis(200), || sent(&stage.standin, "log").is_empty());
    db.batch_execute("select audit_algolia.resume()").unwrap();
    stage.wait_for_records("log", 10);
    let error = db.batch_execute("select audit_algolia.pause('unknown')").unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42704");
}

#[test]
fn a_row_committed_after_a_pause_waits_whatever_the_workers_are_doing() {
    let stage = Stage::builder().setting("audit_algolia.batch_rows", 50).start().unwrap();
    let mut db = staged(&stage, "log");
    db.batch_execute(
        "create table late (id bigint primary key, note text);
         select audit_algolia.watch('late', columns => '{note}', index_name => 'log', object_prefix => 'late:')",
    )
    .unwrap();
    let rounds = AtomicUsize::new(0);
    let is_there = |n| stage.standin.arrivals().iter().any(|row| row.object_id == format!("late:{n}"));
    thread::scope(|scope| {
        // Ends by itself, even if the test has failed: a few statements for each round.
        scope.spawn(|| {
            let mut db = stage.admin();
            for first in (1..=50_000).step_by(100) {
                insert(&mut db, "log", first..=first + 99);
                if rounds.load(Ordering::Relaxed) == 25 {
                    break;
                }
            }
        });
        for n in 1..=25 {
            db.batch_execute("select audit_algolia.pause('log')").unwrap();
            insert(&mut db, "late", n..=n);
            stays_true("not sent", Duration::from_millis(40), || !is_there(n));
            db.batch_execute("select audit_algolia.resume('log')").unwrap();
            rounds.fetch_add(1, Ordering::Relaxed);
        }
    });
    wait_until("all of them sent", SOON, || (1..=25).all(is_there));
}

#[test]
fn flush_waits_for_a_record_that_is_held_back() {
    let stage = Stage::builder()
        .standin(|standin| standin.max_record_bytes = 1_000)
        .setting("audit_algolia.max_attempts", 3)
        .setting("audit_algolia.retry_min", "10min")
        .setting("audit_algolia.retry_max", "10min")
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    db.batch_execute("insert into log values (1, repeat('x', 2000))").unwrap();
    wait_until("a refusal", SOON, || queue(&mut db, "log").retrying == 1);
    insert(&mut db, "log", 2..=2);
    assert!(!one::<bool>(&mut db, "select audit_algolia.flush('200 ms')"));
    stage.wait_for_records("log", 1);
    insert(&mut db, "log", 3..=3);
    assert!(!one::<bool>(&mut db, "select audit_algolia.flush('200 ms')"));
}

#[test]
fn flush_waits_for_rows_that_somebody_has_locked() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    wait_for_state(&mut db, "log", "idle");
    db.batch_execute("select audit_algolia.pause()").unwrap();
    insert(&mut db, "log", 1..=1);
    let mut outsider = stage.admin();
    outsider.batch_execute("begin; select * from audit_algolia.queue for update").unwrap();
    insert(&mut db, "log", 2..=2);
    db.batch_execute("select audit_algolia.resume()").unwrap();
    wait_until("the row nobody has locked", SOON, || queue(&mut db, "log").queued == 1);
    assert!(!one::<bool>(&mut db, "select audit_algolia.flush('1 s')"));
    outsider.batch_execute("commit").unwrap();
    assert!(one::<bool>(&mut db, "select audit_algolia.flush('20 s')"));
    assert_holds(&stage.standin, "log", 1..=2);
}

#[test]
fn flush_waits_for_what_was_queued_before() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    assert!(one::<bool>(&mut db, "select audit_algolia.flush()"));
    stage.standin.fault(None, Fault::HangFor(Duration::from_millis(400)), Times::Once);
    insert(&mut stage.admin(), "log", 1..=10);
    assert!(one::<bool>(&mut db, "select audit_algolia.flush()"));
    assert_holds(&stage.standin, "log", 1..=10);
    stage.standin.fault(None, Fault::Hang, Times::Always);
    insert(&mut db, "log", 11..=20);
    let time = took(|| {
        assert!(!one::<bool>(&mut db, "select audit_algolia.flush('300 ms')"));
    });
    assert!(time >= Duration::from_millis(300) && time < AT_ONCE, "{time:?}");
    stage.standin.clear_faults();
    db.batch_execute("begin").unwrap();
    insert(&mut db, "log", 21..=30);
    let error = db.query_one("select audit_algolia.flush()", &[]).unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25001");
    db.batch_execute("rollback").unwrap();
    for wrong in ["null", "'-1 s'"] {
        let query = format!("select audit_algolia.flush({wrong})");
        assert_eq!(db.query_one(&query, &[]).unwrap_err().code().unwrap().code(), "22023");
    }
}

#[test]
fn flush_is_true_only_when_all_rows_have_arrived() {
    let stage = Stage::builder().setting("audit_algolia.batch_rows", 10).start().unwrap();
    drop(staged(&stage, "log"));
    thread::scope(|scope| {
        for writer in 1..=4_i64 {
            let stage = &stage;
            scope.spawn(move || {
                let mut db = stage.admin();
                for round in 0..25 {
                    let id = writer * 100_000 + round * 10;
                    insert(&mut db, "log", id..=id + 9);
                    assert!(one::<bool>(&mut db, "select audit_algolia.flush()"));
                    let arrived = stage.standin.index("log");
                    assert!((id..id + 10).all(|id| arrived.contains_key(&id.to_string())));
                }
            });
        }
    });
}

#[test]
fn a_flush_can_be_cancelled() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    stage.standin.fault(None, Fault::Hang, Times::Always);
    insert(&mut db, "log", 1..=1);
    let cancel = db.cancel_token();
    thread::scope(|scope| {
        let flush = scope.spawn(|| db.query_one("select audit_algolia.flush('1 h')", &[]).is_err());
        let mut other = stage.admin();
        wait_until("the flush", SOON, || {
            one::<i64>(&mut other, "select count(*) from pg_stat_activity where query like '%flush(''1 h'')' and state = 'active' and pid <> pg_backend_pid()") == 1
        });
        let time = took(|| {
            cancel.cancel_query(postgres::NoTls).unwrap();
            assert!(flush.join().unwrap());
        });
        assert!(time < AT_ONCE, "{time:?}");
    });
}

#[test]
fn statistics_start_again_at_zero_and_what_is_queued_stays_counted() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    insert(&mut db, "log", 1..=10);
    stage.wait_for_records("log", 10);
    wait_for_empty_queue(&mut db);
    db.batch_execute("select audit_algolia.pause()").unwrap();
    wait_for_state(&mut db, "log", "paused");
    insert(&mut db, "log", 11..=17);
    let before: f64 =
        one(&mut db, "select extract(epoch from stats_reset)::float8 from audit_algolia.queue_stats()");
    db.batch_execute("select audit_algolia.reset_stats()").unwrap();
    let seen = queue(&mut db, "log");
    assert_eq!((seen.enqueued_total, seen.delivered_total, seen.queued), (0, 0, 7));
    let after: f64 =
        one(&mut db, "select extract(epoch from stats_reset)::float8 from audit_algolia.queue_stats()");
    assert!(after > before);
    db.batch_execute("select audit_algolia.resume()").unwrap();
    wait_for_empty_queue(&mut db);
    assert_eq!(queue(&mut db, "log").delivered_total, 7);
}

#[test]
fn the_state_tells_what_is_going_on() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    wait_for_state(&mut db, "log", "idle");
    stage.standin.fault(None, Fault::Hang, Times::Always);
    insert(&mut db, "log", 1..=10);
    wait_until("a hanging request", SOON, || stage.standin.in_hang() == 1);
    let seen = queue(&mut db, "log");
    assert_eq!(seen.state, "delivering");
    assert_eq!((seen.queued, seen.in_flight), (10, 10));
    let row = db
        .query_one(
            "select state, index_name, batch_rows, batch_bytes > 0, batch_started_at is not null
             from audit_algolia.worker_stats() where state = 'delivering'",
            &[],
        )
        .unwrap();
    assert_eq!(row.get::<_, String>(1), "log");
    assert_eq!(row.get::<_, i32>(2), 10);
    assert!(row.get::<_, bool>(3) && row.get::<_, bool>(4));
    let ages: bool = one(
        &mut db,
        "select oldest_queued_at <= newest_queued_at and newest_queued_at <= now()
         from audit_algolia.queue_stats()",
    );
    assert!(ages);
    stage.standin.clear_faults();
    stage.wait_for_records("log", 10);
    wait_for_state(&mut db, "log", "idle");
    let none: bool = one(
        &mut db,
        "select oldest_queued_at is null and newest_queued_at is null and last_delivered_at is not null
         from audit_algolia.queue_stats()",
    );
    assert!(none);
}
