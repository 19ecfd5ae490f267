//! The extension is created and dropped, and its workers start and stop with it.

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{Fault, Times};
use audit_algolia_tests::wait::{stays_true, wait_until};
use postgres::Client;
use std::time::Duration;

use crate::support::*;

/// Runs the statement, and asserts that the workers of `postgres` end at once.
#[track_caller]
fn assert_workers_go(db: &mut Client, statement: &str) {
    let time = took(|| {
        db.batch_execute(statement).unwrap();
        wait_for_workers(db, "postgres", 0);
    });
    assert!(time < AT_ONCE, "{time:?}");
}

#[track_caller]
fn assert_workers_come(db: &mut Client, statement: &str) {
    let time = took(|| {
        db.batch_execute(statement).unwrap();
        wait_for_workers(db, "postgres", 2);
    });
    assert!(time < AT_ONCE, "{time:?}");
}

#[test]
fn workers_come_with_the_extension_and_go_with_it() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    let create = "create extension audit_algolia";
    wait_for_workers(&mut db, "postgres", 2);
    for drop in [
        "drop extension audit_algolia cascade",
        "drop schema audit_algolia cascade",
        "begin; drop extension audit_algolia cascade; commit",
    ] {
        assert_workers_go(&mut db, drop);
        assert_workers_come(&mut db, create);
    }
    db.batch_execute("drop extension audit_algolia; create role owner superuser; set role owner").unwrap();
    assert_workers_come(&mut db, create);
    assert_workers_go(&mut db, "reset role; drop owned by owner cascade");
    assert_no_faults(&stage.cluster);
}

#[test]
fn the_extension_can_be_dropped_while_rows_are_being_delivered() {
    let stage = Stage::builder()
        .setting("audit_algolia.batch_rows", 5)
        .standin(|standin| standin.latency = Duration::from_millis(2))
        .start()
        .unwrap();
    let mut db = stage.admin();
    for round in 0..5 {
        let table = format!("log_{round}");
        watch(&mut db, &table);
        insert(&mut db, &table, 1..=3000);
        wait_until("deliveries", SOON, || stage.standin.operations(&table) > 100);
        assert_workers_go(&mut db, "drop extension audit_algolia cascade");
        assert_workers_come(&mut db, "create extension audit_algolia");
    }
    assert_no_faults(&stage.cluster);
}

#[test]
fn the_extension_can_be_dropped_while_algolia_hangs() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    stage.standin.fault(None, Fault::Hang, Times::Always);
    insert(&mut db, "log", 1..=100);
    wait_until("a hanging request", SOON, || stage.standin.in_hang() == 1);
    assert_workers_go(&mut db, "drop extension audit_algolia cascade");
    stage.standin.clear_faults();
    assert_workers_come(&mut db, "create extension audit_algolia");
}

#[test]
fn an_extension_made_anew_starts_with_empty_books() {
    let stage = Stage::builder().start().unwrap();
    for statement in [
        "drop extension audit_algolia cascade; create extension audit_algolia",
        "begin; drop extension audit_algolia cascade; create extension audit_algolia; commit",
    ] {
        let mut db = stage.admin();
        db.batch_execute("drop table if exists log").unwrap();
        watch(&mut db, "log");
        db.batch_execute("select audit_algolia.pause('log')").unwrap();
        wait_for_state(&mut db, "log", "paused");
        insert(&mut db, "log", 1..=100);
        for part in statement.split("; ") {
            db.batch_execute(part).unwrap();
        }
        db.batch_execute("drop table log").unwrap();
        watch(&mut db, "log");
        wait_for_state(&mut db, "log", "idle");
        stage.standin.reset();
        insert(&mut db, "log", 201..=250);
        stage.wait_for_records("log", 50);
        wait_for_empty_queue(&mut db);
        wait_for_workers(&mut db, "postgres", 2);
        assert_each_once(&stage.standin, "log", 201..=250);
    }
}

#[test]
fn an_extension_rolled_back_leaves_nothing_running() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    assert_workers_go(&mut db, "drop extension audit_algolia");
    db.batch_execute("begin; create extension audit_algolia").unwrap();
    watch(&mut db, "log");
    insert(&mut db, "log", 1..=10);
    db.batch_execute("rollback").unwrap();
    stays_true("no worker", Duration::from_millis(500), || workers(&mut db, "postgres").is_empty());
    assert!(stage.standin.requests().is_empty());
    // The other way round: a drop that is rolled back changes nothing.
    assert_workers_come(&mut db, "create extension audit_algolia");
    watch(&mut db, "log");
    db.batch_execute("begin; drop extension audit_algolia cascade; rollback").unwrap();
    insert(&mut db, "log", 1..=10);
    stage.wait_for_records("log", 10);
}

#[test]
fn other_extensions_are_none_of_our_business() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    wait_for_workers(&mut db, "postgres", 2);
    let before = workers(&mut db, "postgres");
    db.batch_execute("drop extension plpgsql; create extension plpgsql; drop extension plpgsql").unwrap();
    stays_true("the same workers", Duration::from_millis(700), || workers(&mut db, "postgres") == before);
    // The launcher's records are correct: a worker that ends is replaced.
    db.execute("select pg_terminate_backend($1)", &[&before[1]]).unwrap();
    wait_until("another worker", SOON, || {
        let now = workers(&mut db, "postgres");
        now.len() == 2 && now != before
    });
}

#[test]
fn an_extension_in_a_prepared_transaction_is_served_when_it_commits() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    wait_for_workers(&mut db, "postgres", 2);
    db.batch_execute("begin").unwrap();
    watch(&mut db, "log");
    insert(&mut db, "log", 1..=10);
    db.batch_execute("prepare transaction 'later'").unwrap();
    db.batch_execute("commit prepared 'later'").unwrap();
    stage.wait_for_records("log", 10);
    wait_for_empty_queue(&mut db);
    for (wish, state) in [("pause", "paused"), ("resume", "idle")] {
        db.batch_execute(&format!("begin; select audit_algolia.{wish}('log'); prepare transaction 'later'"))
            .unwrap();
        db.batch_execute("commit prepared 'later'").unwrap();
        wait_for_state(&mut db, "log", state);
    }
    assert_workers_go(&mut db, "drop extension audit_algolia cascade");
    db.batch_execute("begin; create extension audit_algolia; prepare transaction 'later'").unwrap();
    assert_workers_come(&mut db, "commit prepared 'later'");
}
