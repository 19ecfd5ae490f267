//! The boundary between backfill and live capture: no row is missed, and none is sent twice.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

use audit_algolia_tests::stage::Stage;

use crate::support::*;

#[test]
fn what_a_table_holds_is_delivered_once_while_others_go_on_inserting() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    fill(&mut db, 20_000);
    let (stop, last) = (AtomicBool::new(false), AtomicI64::new(100_000));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut writer = stage.admin();
                while !stop.load(Ordering::Relaxed) {
                    let id = last.fetch_add(3, Ordering::Relaxed);
                    writer
                        .execute(
                            "insert into log select n, 'live' from generate_series($1::bigint, $1 + 2) as n",
                            &[&id],
                        )
                        .unwrap();
                }
            });
        }
        audit_algolia_tests::wait::wait_until("the first live rows", LATER, || {
            one::<i64>(&mut db, "select count(*) from log") > 20_100
        });
        watch(&mut db);
        wait_for(&mut db, "finished");
        stop.store(true, Ordering::Relaxed);
    });
    wait_for_end(&mut db);
    let ids = db.query("select id from log", &[]).unwrap();
    assert!(ids.len() > 20_100);
    assert_each_once(&stage.standin, "log", ids.iter().map(|row| row.get::<_, i64>(0)));
    let (done, total): (i64, i64) = {
        let row =
            db.query_one("select rows_done, rows_total from audit_algolia.backfill_progress", &[]).unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!(done, total);
    assert!((20_100..ids.len() as i64).contains(&done), "{done}");
}

#[test]
fn a_transaction_that_was_under_way_is_captured_or_history_as_it_wrote_before_or_after() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    fill(&mut db, 10);
    db.batch_execute("create table other (n int)").unwrap();
    let (mut early, mut late, mut nested) = (stage.admin(), stage.admin(), stage.admin());
    // Each has its transaction id before the watch, and the savepoint has one of its own.
    early.batch_execute("begin; insert into other values (1); insert into log values (11, 'early')").unwrap();
    late.batch_execute("begin; insert into other values (2)").unwrap();
    nested.batch_execute("begin; savepoint a; insert into other values (3)").unwrap();
    thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&mut stage.admin()));
        audit_algolia_tests::wait::wait_until("somebody waiting for the table", LATER, || {
            one(
                &mut db,
                "select exists (select from pg_locks where not granted and relation = 'log'::regclass)",
            )
        });
        early.batch_execute("commit").unwrap();
        watching.join().unwrap();
    });
    late.batch_execute("insert into log values (12, 'late')").unwrap();
    nested.batch_execute("insert into log values (13, 'nested')").unwrap();
    wait_for(&mut db, "finished");
    late.batch_execute("commit").unwrap();
    nested.batch_execute("release a; commit").unwrap();
    wait_for_end(&mut db);
    stage.wait_for_records("log", 13);
    assert_each_once(&stage.standin, "log", 1..=13);
    // A second backfill reads all of them again. Committed rows are distinguished too.
    db.batch_execute("select audit_algolia.backfill('log')").unwrap();
    wait_for_end(&mut db);
    let twice = (1..=11).chain(1..=13);
    assert_each_once(&stage.standin, "log", twice);
}

#[test]
fn rows_of_the_watching_transaction_itself_are_not_missed() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "begin;
         create table log (id bigint primary key, note text);
         insert into log select n, 'before' from generate_series(1, 100) as n;
         savepoint a; insert into log values (101, 'before, in a savepoint'); release a;
         select audit_algolia.watch('log', columns => '{note}', backfill => true);
         insert into log values (102, 'after');
         savepoint b; insert into log values (103, 'after, in a savepoint'); release b;
         commit",
    )
    .unwrap();
    wait_for_end(&mut db);
    stage.wait_for_records("log", 103);
    assert_each_once(&stage.standin, "log", 1..=103);
    db.batch_execute(
        "drop table log;
         begin;
         create table log (id bigint primary key, note text);
         select audit_algolia.watch('log', 'second', columns => '{note}', backfill => true);
         insert into log select n, 'after' from generate_series(1, 100) as n;
         commit",
    )
    .unwrap();
    wait_for_end(&mut db);
    assert_each_once(&stage.standin, "second", 1..=100);
}

#[test]
fn an_old_row_that_is_updated_meanwhile_is_sent_once_as_it_is_then() {
    // Nothing is read before the update.
    let stage = Stage::builder().setting("audit_algolia.workers", 0).start().unwrap();
    let mut db = stage.admin();
    fill(&mut db, 100);
    watch(&mut db);
    db.batch_execute("update log set note = 'updated' where id <= 10").unwrap();
    db.batch_execute("insert into log values (101, 'live')").unwrap();
    db.batch_execute("update log set note = 'live, updated' where id = 101").unwrap();
    stage.cluster.set(&[("audit_algolia.workers", "2")]).unwrap();
    wait_for_end(&mut db);
    stage.wait_for_records("log", 101);
    // A row that was inserted and then updated may look like an old one. It is sent again as the same object.
    assert_each_once(&stage.standin, "log", (1..=101).chain([101]));
    let index = stage.standin.index("log");
    assert_eq!(index["10"]["note"], "updated");
    assert_eq!(index["11"]["note"], "note 11");
}

#[test]
fn a_table_that_is_rewritten_meanwhile_loses_no_row() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    fill(&mut db, 3000);
    watch(&mut db);
    db.batch_execute(
        "select audit_algolia.backfill('log', rows_per_second => 500);
         alter table log alter column note type varchar(100) using note || '!'",
    )
    .unwrap();
    db.batch_execute("select audit_algolia.backfill('log')").unwrap();
    wait_for_end(&mut db);
    stage.wait_for_records("log", 3000);
    db.batch_execute("vacuum full log").unwrap();
    db.batch_execute("select audit_algolia.backfill('log')").unwrap();
    wait_for_end(&mut db);
    let rows = one::<i64>(&mut db, "select rows_done from audit_algolia.backfill_progress");
    assert_eq!(rows, 3000);
}

/// Writers directly into a partition lock its root no more strongly than readers do.
#[test]
fn rows_written_straight_into_a_partition_while_a_watch_waits_are_not_missed() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    for (table, rules) in [("log", "backfill => true"), ("mirrored", "mode => 'mirror', backfill => true")] {
        db.batch_execute(&format!(
            "create table {table} (id bigint primary key, note text) partition by range (id);
             create table {table}_part partition of {table} for values from (0) to (100) partition by range (id);
             create table {table}_low partition of {table}_part for values from (0) to (50);
             create table {table}_high partition of {table}_part for values from (50) to (100)"
        ))
        .unwrap();
        let (mut low, mut high) = (stage.admin(), stage.admin());
        low.batch_execute(&format!("begin; insert into {table}_low values (1, 'early')")).unwrap();
        high.batch_execute("begin").unwrap();
        thread::scope(|scope| {
            let watching = scope.spawn(|| {
                stage.admin().batch_execute(&format!(
                    "select audit_algolia.watch('{table}', columns => '{{note}}', {rules})"
                ))
            });
            audit_algolia_tests::wait::wait_until("a watch that waits", LATER, || {
                one(&mut db, "select exists (select from pg_locks where not granted)")
            });
            // A writer that locks a partition before the watch does can still write to it.
            high.batch_execute(&format!("insert into {table}_high values (51, 'while it waits'); commit"))
                .unwrap();
            low.batch_execute("commit").unwrap();
            watching.join().unwrap().unwrap();
        });
        db.batch_execute(&format!("insert into {table} values (2, 'after'), (52, 'after')")).unwrap();
        stage.wait_for_records(table, 4);
    }
}

#[test]
fn rows_from_before_a_watch_are_history_also_in_the_transaction_that_asks_for_both() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    for (index, rules, range) in [
        ("mirror", "mode => 'mirror'", ""),
        ("bounded", "time_column => 'at'", ", since => '2020-01-01'"),
        ("unbounded", "time_column => 'at'", ""),
    ] {
        db.batch_execute(&format!(
            "begin; create table {index} (id int primary key, at timestamptz default '2026-01-01');
             insert into {index} select n from generate_series(1, 10) as n;
             select audit_algolia.watch('{index}', columns => '{{id, at}}', {rules});
             insert into {index} values (11);
             select audit_algolia.backfill('{index}'{range});
             insert into {index} values (12); commit"
        ))
        .unwrap();
        stage.wait_for_records(index, 12);
    }
}

/// The rows that a partition holds when it is attached were never captured, however new they are. Rows inserted later
/// are.
#[test]
fn rows_of_a_partition_that_was_attached_since_the_watch_began_are_history() {
    for operations in ["{insert}", "{insert, update, delete}"] {
        let stage = Stage::builder().start().unwrap();
        let mut db = stage.admin();
        db.batch_execute(&format!(
            "create table log (id bigint primary key, note text) partition by range (id);
             create table log_1 partition of log for values from (0) to (100);
             insert into log values (1, 'before');
             select audit_algolia.watch('log', columns => '{{note}}', operations => '{operations}');
             insert into log values (2, 'live');
             create table log_2 (id bigint primary key, note text);
             insert into log_2 values (101, 'attached');
             begin;
             insert into log_2 values (102, 'attached by the same transaction');
             alter table log attach partition log_2 for values from (100) to (200);
             insert into log values (103, 'live');
             commit;
             insert into log values (104, 'live');
             create table log_3 partition of log for values from (200) to (300);
             insert into log values (201, 'live')"
        ))
        .unwrap();
        let live: Vec<i64> = vec![2, 103, 104, 201];
        let key = |id: String| id.split('@').next().unwrap().parse::<i64>().unwrap();
        let arrived = |stage: &Stage| {
            let mut ids: Vec<i64> = sent(&stage.standin, "log").into_iter().map(key).collect();
            ids.sort_unstable();
            ids
        };
        audit_algolia_tests::wait::wait_until("live rows", LATER, || arrived(&stage) == live);
        db.batch_execute("select audit_algolia.backfill('log')").unwrap();
        wait_for_end(&mut db);
        assert_eq!(arrived(&stage), [1, 2, 101, 102, 103, 104, 201], "{operations}");
        // A second backfill sends it once more, and nothing else.
        db.batch_execute("select audit_algolia.backfill('log')").unwrap();
        wait_for_end(&mut db);
        assert_eq!(arrived(&stage), [1, 1, 2, 101, 101, 102, 102, 103, 104, 201], "{operations}");
    }
}
