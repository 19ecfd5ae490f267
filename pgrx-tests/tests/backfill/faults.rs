//! What goes wrong during a backfill: crashes, locks, dropped tables and extensions, dumps, standbys. Nothing is lost,
//! nothing is queued twice, and nobody is blocked.

use audit_algolia_tests::server::{Cluster, StopMode};
use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::{eventually, stays_true, wait_until};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

use crate::support::*;

/// Orders what the next process does that reaches a failpoint; see `src/pg/failpoint.rs`.
fn order(stage: &Stage, point: &str, action: &str) {
    std::fs::write(stage.cluster.data_dir().join("audit_algolia.failpoint"), format!("{point} {action}"))
        .unwrap();
}

/// Watches a full `log` and starts a backfill at this rate. Returns when so many rows have been read.
fn under_way(stage: &Stage, rows_per_second: i32, rows: i64) -> postgres::Client {
    let mut db = stage.admin();
    fill(&mut db, 5000);
    db.batch_execute("select audit_algolia.watch('log', columns => '{note}')").unwrap();
    db.execute("select audit_algolia.backfill('log', rows_per_second => $1)", &[&rows_per_second]).unwrap();
    wait_until("a part of it", LATER, || done(&mut db) >= rows);
    db
}

#[test]
fn after_an_immediate_stop_it_goes_on_where_it_was() {
    let stage = Stage::builder().start().unwrap();
    let mut db = under_way(&stage, 1000, 500);
    for round in 0..3 {
        drop(db);
        stage.cluster.stop(StopMode::Immediate).unwrap();
        stage.cluster.start().unwrap();
        db = stage.session();
        let before = done(&mut db);
        assert!(before >= 500, "what was committed stays: {before}");
        wait_until("some more", LATER, || done(&mut db) > before);
        assert!(state(&mut db) != "finished" || round > 0);
    }
    db.batch_execute("select audit_algolia.backfill('log')").unwrap();
    wait_for_end(&mut db);
    stage.wait_for_records("log", 5000);
    // Each was queued once. A batch whose settlement was lost in a crash is sent again.
    assert_eq!(done(&mut db), 5000);
    let queued: i64 = one(&mut db, "select rows_queued from audit_algolia.backfill_progress");
    assert_eq!(queued, 5000);
}

#[test]
fn whatever_ends_the_process_at_whatever_moment_each_row_is_queued_once() {
    let stage = Stage::builder().setting("audit_algolia.enabled", "off").start().unwrap();
    drop(under_way(&stage, 1000, 100));
    // The server may just be starting.
    let progress = || {
        let mut db = stage.cluster.connect("postgres", "postgres").ok()?;
        let row = db.query_one("select rows_done from audit_algolia.backfill_progress", &[]).ok()?;
        Some(row.get::<_, i64>(0))
    };
    for point in ["before backfill", "in backfill", "in capture"] {
        for action in ["error", "kill"] {
            let file = stage.cluster.data_dir().join("audit_algolia.failpoint");
            order(&stage, point, action);
            wait_until(&format!("somebody {point}"), LATER, || !file.exists());
            let before = eventually("the progress", SOON, progress);
            wait_until(&format!("more after {action} {point}"), LATER, || progress() > Some(before));
        }
    }
    let mut db = stage.session();
    db.batch_execute("select audit_algolia.backfill('log')").unwrap();
    wait_for(&mut db, "finished");
    let queued = "select count(*) = 5000 and count(distinct record::jsonb->>'objectID') = 5000 from audit_algolia.queue";
    assert!(one::<bool>(&mut db, queued));
}

#[test]
fn the_process_ends_at_once_when_it_is_told_to_and_another_goes_on() {
    let stage = Stage::builder().start().unwrap();
    let mut db = under_way(&stage, 200, 100);
    let pid = backfillers(&mut db)[0];
    let started = Instant::now();
    stage.cluster.kill_backend(pid, Signal::SIGTERM).unwrap();
    wait_until("its end", SOON, || !backfillers(&mut db).contains(&pid));
    assert!(started.elapsed() < Duration::from_secs(2));
    let before = done(&mut db);
    wait_until("another to go on", LATER, || done(&mut db) > before);
    let started = Instant::now();
    stage.cluster.stop(StopMode::Fast).unwrap();
    assert!(started.elapsed() < Duration::from_secs(3), "a fast shutdown took {:?}", started.elapsed());
}

#[test]
fn an_extension_or_a_database_is_dropped_at_once() {
    let stage = Stage::builder().start().unwrap();
    let mut db = under_way(&stage, 200, 100);
    let started = Instant::now();
    db.batch_execute("drop extension audit_algolia cascade").unwrap();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    wait_until("its end", SOON, || backfillers(&mut db).is_empty());
    db.batch_execute("create database other").unwrap();
    let mut other = stage.cluster.client("other", "postgres");
    other.batch_execute("create extension audit_algolia").unwrap();
    fill(&mut other, 5000);
    other
        .batch_execute(
            "select audit_algolia.watch('log', 'other', columns => '{note}');
             select audit_algolia.backfill('log', rows_per_second => 100)",
        )
        .unwrap();
    wait_until("the process", LATER, || !backfillers(&mut db).is_empty());
    drop(other);
    let started = Instant::now();
    db.batch_execute("alter database other rename to another").unwrap();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    wait_until("it to be back", LATER, || !backfillers(&mut db).is_empty());
    let started = Instant::now();
    db.batch_execute("drop database another").unwrap();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(backfillers(&mut db).is_empty());
}

#[test]
fn a_step_that_takes_long_keeps_neither_extension_nor_database_from_being_dropped() {
    let stage = Stage::builder().start().unwrap();
    let mut admin = stage.admin();
    let slow = "create function slow(bigint) returns boolean language plpgsql stable as
            'begin perform pg_sleep(0.05); return true; end';
        select audit_algolia.watch('log', columns => '{note}', filter => 'slow(id)', backfill => true)";
    admin.batch_execute("create database other").unwrap();
    let mut other = stage.cluster.client("other", "postgres");
    other.batch_execute("create extension audit_algolia").unwrap();
    for db in [&mut admin, &mut other] {
        fill(db, 1000);
        db.batch_execute(slow).unwrap();
    }
    wait_until("both at work", LATER, || {
        let query = "select count(*) from pg_stat_activity
            where backend_type = 'audit_algolia backfill' and wait_event = 'PgSleep'";
        one::<i64>(&mut admin, query) == 2
    });
    drop(other);
    for statement in ["drop extension audit_algolia cascade", "drop database other"] {
        let started = Instant::now();
        admin.batch_execute(statement).unwrap();
        assert!(started.elapsed() < Duration::from_secs(2), "{statement}: {:?}", started.elapsed());
    }
    assert!(backfillers(&mut admin).is_empty());
}

#[test]
fn what_becomes_of_the_table_is_told() {
    let stage = Stage::builder().start().unwrap();
    let mut db = under_way(&stage, 200, 100);
    db.batch_execute("alter table log drop column note").unwrap();
    wait_for(&mut db, "failed");
    let told = trouble(&mut db);
    assert!(told.contains("column \"note\" of watched table \"log\" no longer exists"), "{told}");
    assert!(told.contains("Call audit_algolia.unwatch() and then audit_algolia.watch()"), "{told}");
    db.batch_execute(
        "alter table log add note text; select audit_algolia.backfill('log', rows_per_second => 200)",
    )
    .unwrap();
    let before = done(&mut db);
    wait_until("it to go on", LATER, || done(&mut db) > before);
    // Without the trigger, a row that is inserted now would be neither captured nor part of the backfill.
    db.batch_execute("drop trigger audit_algolia_1_insert on log").unwrap();
    wait_for(&mut db, "waiting");
    assert_eq!(trouble(&mut db), "the table's trigger is missing");
    db.batch_execute(
        "create trigger audit_algolia_1_insert after insert on log for each row execute function audit_algolia.capture('1');
         alter table log rename to logbook;
         select audit_algolia.backfill('logbook', rows_per_second => 200)",
    )
    .unwrap();
    let before = done(&mut db);
    wait_until("it to go on under another name", LATER, || done(&mut db) > before);
    assert_eq!(trouble(&mut db), "");
    db.batch_execute("drop table logbook").unwrap();
    assert_eq!(one::<i64>(&mut db, "select count(*) from audit_algolia.backfill"), 0);
    wait_until("its end", SOON, || backfillers(&mut db).is_empty());
    fill(&mut db, 3000);
    db.batch_execute("select audit_algolia.watch('log', columns => '{note}')").unwrap();
    db.batch_execute("select audit_algolia.backfill('log', rows_per_second => 200)").unwrap();
    wait_until("some", LATER, || done(&mut db) > 0);
    db.batch_execute("select audit_algolia.unwatch('log')").unwrap();
    assert_eq!(one::<i64>(&mut db, "select count(*) from audit_algolia.backfill"), 0);
    wait_until("its end", SOON, || backfillers(&mut db).is_empty());
    let faults = ["PANIC", "deadlock", "FATAL"];
    let log = stage.cluster.log();
    assert!(!faults.iter().any(|fault| log.contains(fault)), "{log}");
}

#[test]
fn a_dump_takes_it_along_and_the_new_place_goes_on() {
    let stage = Stage::builder().start().unwrap();
    let mut db = under_way(&stage, 500, 1000);
    db.batch_execute("select audit_algolia.pause('log')").unwrap();
    db.batch_execute("insert into log select n, 'live' from generate_series(5001, 5100) as n").unwrap();
    let other = Stage::builder().start().unwrap();
    other.admin().batch_execute("drop extension audit_algolia; drop schema audit_algolia").unwrap();
    let file = stage.cluster.socket_dir().join("dump");
    stage.cluster.run("pg_dump", &["-Fc", "-f", file.to_str().unwrap(), "-d", "postgres"]).unwrap();
    other.cluster.run("pg_restore", &["-j", "2", "-d", "postgres", file.to_str().unwrap()]).unwrap();
    let mut db = other.admin();
    assert!(done(&mut db) >= 1000);
    db.batch_execute("insert into log select n, 'live' from generate_series(5101, 5200) as n").unwrap();
    db.batch_execute("select audit_algolia.resume(); select audit_algolia.backfill('log')").unwrap();
    wait_for_end(&mut db);
    let all: std::collections::BTreeSet<String> =
        [&stage, &other].iter().flat_map(|stage| sent(&stage.standin, "log")).collect();
    assert_eq!(all.len(), 5200);
}

#[test]
fn on_a_standby_it_sleeps_and_after_promotion_it_goes_on() {
    let stage = Stage::builder().start().unwrap();
    let mut db = under_way(&stage, 300, 300);
    let standby = Cluster::standby_of(&stage.cluster).unwrap();
    let mut there = standby.client("postgres", "postgres");
    wait_until("the standby to follow", LATER, || done(&mut there) >= 300);
    assert!(backfillers(&mut there).is_empty());
    let error = there.batch_execute("select audit_algolia.cancel_backfill('log')").unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25006");
    db.batch_execute("select audit_algolia.pause('log')").unwrap();
    drop(db);
    stage.cluster.stop(StopMode::Fast).unwrap();
    standby.promote().unwrap();
    let mut there = standby.client("postgres", "postgres");
    there.batch_execute("select audit_algolia.resume('log'); select audit_algolia.backfill('log')").unwrap();
    wait_for_end(&mut there);
    stage.wait_for_records("log", 5000);
}

/// Somebody locks one partition of a table exclusively. The backfills and repairs of other tables go on, and the
/// process neither waits nor holds back vacuum.
#[test]
fn a_locked_partition_holds_up_neither_history_nor_repairs_of_other_tables() {
    let stage = Stage::builder()
        .setting("audit_algolia.on_capture_error", "warn")
        .setting("audit_algolia.retry_max", "200ms")
        .start()
        .unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table flawed (id bigint primary key, v int);
         select audit_algolia.watch('flawed', columns => '{v}', filter => '100 / v is not null');
         create table parts (id bigint primary key, note text) partition by range (id);
         create table parts_1 partition of parts for values from (0) to (1000);
         create table parts_2 partition of parts for values from (1000) to (2000);
         create table bare (id bigint not null, note text) partition by range (id);
         create table bare_1 partition of bare for values from (0) to (1000);
         create table bare_2 partition of bare for values from (1000) to (2000);
         insert into parts select n, 'p' from generate_series(1, 1500) as n;
         insert into bare select n, 'b' from generate_series(1, 1500) as n;
         select audit_algolia.watch('parts', columns => '{note}', mode => 'mirror');
         select audit_algolia.watch('bare', columns => '{note}', object_id => '{id}')",
    )
    .unwrap();
    fill(&mut db, 500);
    let mut other = stage.admin();
    other.batch_execute("begin; lock table only parts_1, only bare_1 in access exclusive mode").unwrap();
    // Does what `backfill()` would do, but without waiting for the partition.
    db.batch_execute(
        "insert into audit_algolia.backfill (source, relation, state, rows_done, rows_queued, requested_at, rate)
         select id, relation, 'waiting', 0, 0, now(), 0 from audit_algolia.source where relation in ('parts'::regclass, 'bare'::regclass)",
    )
    .unwrap();
    watch(&mut db);
    db.batch_execute("insert into flawed values (1, 0); update flawed set v = 1").unwrap();
    let finished = "select state from audit_algolia.backfill_progress where source = 'log'::regclass";
    wait_until("the history of the other table", LATER, || one::<String>(&mut db, finished) == "finished");
    stage.wait_for_records("flawed", 1);
    let pins = "select exists (select from pg_stat_activity as a
                 where backend_type = 'audit_algolia backfill'
                     and (wait_event_type = 'Lock' or backend_xmin is not null and now() - xact_start > interval '1 s'))";
    stays_true("a process that waits for no lock", Duration::from_secs(1), || !one::<bool>(&mut db, pins));
    other.batch_execute("rollback").unwrap();
    let all = "select bool_and(state = 'finished') from audit_algolia.backfill_progress";
    wait_until("all history", LATER, || one(&mut db, all));
    stage.wait_for_records("parts", 1500);
    stage.wait_for_records("bare", 1500);
}

/// The backfill waits for sessions that restore a dump, but not for others that only look like it.
#[test]
fn who_may_not_copy_into_the_queue_holds_up_no_history() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute("create role stranger login").unwrap();
    let mut stranger = stage.cluster.client("postgres", "stranger");
    let denied = stranger.batch_execute("copy audit_algolia.queue from stdin").unwrap_err();
    assert_eq!(denied.code().unwrap().code(), "42501", "{denied:?}");
    fill(&mut db, 50);
    watch(&mut db);
    db.batch_execute("select audit_algolia.backfill('log')").unwrap();
    wait_for_end(&mut db);
    stage.wait_for_records("log", 50);
    drop(stranger);
}
