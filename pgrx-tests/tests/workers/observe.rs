//! What an administrator sees, and what delivery costs the server.

use std::time::Duration;

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{Fault, Times};
use audit_algolia_tests::wait::{eventually, stays_true, wait_until};

use crate::support::*;

#[test]
fn the_processes_say_what_they_are_and_what_they_do() {
    let stage = Stage::builder()
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.in_flight", 3)
        .setting("audit_algolia.batch_rows", 10)
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    wait_for_workers(&mut db, "postgres", 1);
    let kinds: i64 = one(
        &mut db,
        "select count(distinct backend_type) from pg_stat_activity
         where backend_type in ('audit_algolia worker', 'audit_algolia launcher')",
    );
    assert_eq!(kinds, 2);
    let activity = "
        select state || ': ' || query from pg_stat_activity where backend_type = 'audit_algolia worker'";
    wait_until("an idle worker", SOON, || one::<String>(&mut db, activity) == "idle: waiting for rows");
    // One request is answered and its rows are deleted. The other still hangs, and the statistics show that.
    stage.standin.fault(None, Fault::Hang, Times::Once);
    insert(&mut db, "log", 1..=10);
    wait_until("a hanging request", SOON, || stage.standin.in_hang() == 1);
    insert(&mut db, "log", 11..=12);
    stage.wait_for_records("log", 2);
    wait_until("the queue", SOON, || queue(&mut db, "log").queued == 10);
    let seen = eventually("what it delivers", SOON, || {
        let text: String = one(&mut db, activity);
        text.contains("delivering").then_some(text)
    });
    assert_eq!(seen, "active: delivering 10 rows to index \"log\"");
}

#[test]
fn autovacuum_learns_of_each_deletion() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    insert(&mut db, "log", 1..=100);
    stage.wait_for_records("log", 100);
    insert(&mut db, "log", 101..=105);
    stage.wait_for_records("log", 105);
    // Including the last ones before the workers go to sleep.
    wait_until("all deletions", SOON, || {
        one::<i64>(
            &mut db,
            "select n_tup_del from pg_stat_user_tables where relid = 'audit_algolia.queue'::regclass",
        ) == 105
    });
}

#[test]
fn an_idle_server_is_left_alone() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    db.batch_execute("create database nobody_home").unwrap();
    insert(&mut db, "log", 1..=100);
    stage.wait_for_records("log", 100);
    wait_for_empty_queue(&mut db);
    wait_until("the counter to end", SOON, || {
        one::<i64>(
            &mut db,
            "select count(*) from pg_stat_activity where backend_type = 'audit_algolia counter'",
        ) == 0
    });
    // Measured from another database, because transactions of this one are counted.
    let mut other = stage.cluster.client("nobody_home", "postgres");
    drop(db);
    let look = "
        select coalesce(string_agg(a.pid || ' ' || a.state_change || ' ' || a.query, ', ' order by a.pid), '')
        from pg_stat_activity as a where a.backend_type like 'audit_algolia%'";
    let ours = "select pid from pg_stat_activity where backend_type like 'audit_algolia%'";
    let mut pids: Vec<i32> = Vec::new();
    // The launcher looks at a new database at once.
    wait_until("launcher and two workers alone", SOON, || {
        pids = other.query(ours, &[]).unwrap().iter().map(|row| row.get(0)).collect();
        pids.len() == 3
    });
    // Statistics are reported up to a second after the last transaction.
    let mut since = (switches(&pids), std::time::Instant::now());
    wait_until("quiet", SOON, || {
        let now = switches(&pids);
        if now != since.0 {
            since = (now, std::time::Instant::now());
        }
        since.1.elapsed() > Duration::from_millis(1500)
    });
    let (before, woken) = (one::<String>(&mut other, look), switches(&pids));
    stays_true("nobody wakes up", Duration::from_secs(6), || switches(&pids) == woken);
    assert_eq!(one::<String>(&mut other, look), before);
}

#[test]
fn a_pinned_snapshot_does_not_slow_the_claims_down() {
    let stage =
        Stage::builder().setting("audit_algolia.workers", 1).setting("autovacuum", "off").start().unwrap();
    let mut db = staged(&stage, "log");
    let mut reader = stage.admin();
    reader.batch_execute("begin isolation level repeatable read; select count(*) from log").unwrap();
    let mut next = 1;
    let mut deliver = |db: &mut postgres::Client, commits: i64| {
        for _ in 0..commits {
            insert(db, "log", next..=next + 99);
            next += 100;
            assert!(one::<bool>(db, "select audit_algolia.flush()"));
        }
    };
    // How many pages of the queue and its key are read per commit.
    let pages = |db: &mut postgres::Client| -> i64 {
        wait_until("the worker's statistics", SOON, || {
            let told: i64 = one(
                db,
                "select n_tup_del from pg_stat_user_tables where relid = 'audit_algolia.queue'::regclass",
            );
            let delivered = queue(db, "log").delivered_total;
            told == delivered
        });
        one(
            db,
            "select heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read
             from pg_statio_user_tables where relid = 'audit_algolia.queue'::regclass",
        )
    };
    deliver(&mut db, 20);
    let start = pages(&mut db);
    deliver(&mut db, 20);
    let first = pages(&mut db) - start;
    deliver(&mut db, 120);
    let start = pages(&mut db);
    deliver(&mut db, 20);
    let last = pages(&mut db) - start;
    assert!(last < first * 2, "{first} pages at first, {last} at last");
    drop(reader);
}
