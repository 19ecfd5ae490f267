//! Several databases, and what can be done to them while they are served.

use std::time::Duration;

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::{stays_true, wait_until};
use postgres::Client;

use crate::support::*;

/// A stage with another served database `shop`, both with two workers.
fn with_shop() -> (Stage, Client, Client) {
    let stage = Stage::builder().setting("max_worker_processes", 20).start().unwrap();
    let mut db = staged(&stage, "log");
    let shop = add(&stage, &mut db, "shop");
    (stage, db, shop)
}

fn add(stage: &Stage, db: &mut Client, name: &str) -> Client {
    db.batch_execute(&format!("create database {name}")).unwrap();
    let mut client = stage.cluster.client(name, "postgres");
    client.batch_execute("create extension audit_algolia").unwrap();
    watch(&mut client, "sales");
    wait_for_workers(db, name, 2);
    client
}

/// Runs the statement and asserts that it did not have to wait for workers.
#[track_caller]
fn at_once(db: &mut Client, statement: &str) {
    let time = took(|| db.batch_execute(statement).unwrap());
    assert!(time < AT_ONCE, "{statement}: {time:?}");
}

#[test]
fn a_database_is_dropped_while_another_is_served() {
    let (stage, mut db, mut shop) = with_shop();
    for option in ["", " with (force)"] {
        insert(&mut shop, "sales", 1..=10);
        stage.wait_for_records("sales", 10);
        if option.is_empty() {
            drop(shop);
        }
        insert(&mut db, "log", 1..=100);
        at_once(&mut db, &format!("drop database shop{option}"));
        stage.wait_for_records("log", 100);
        db.batch_execute("delete from log").unwrap();
        stage.standin.reset();
        shop = add(&stage, &mut db, "shop");
    }
    assert!(!stage.cluster.log().contains("does not exist"), "a worker came too late");
}

#[test]
fn a_database_with_many_workers_is_dropped_at_once() {
    let stage = Stage::builder()
        .setting("max_worker_processes", 30)
        .setting("audit_algolia.workers", 12)
        .setting("audit_algolia.databases", "shop")
        .start()
        .unwrap();
    let mut db = stage.admin();
    db.batch_execute("create database shop").unwrap();
    stage.cluster.client("shop", "postgres").batch_execute("create extension audit_algolia").unwrap();
    wait_for_workers(&mut db, "shop", 12);
    at_once(&mut db, "drop database shop");
}

#[test]
fn a_served_database_is_copied_and_the_copy_is_served_too() {
    let (stage, mut db, mut shop) = with_shop();
    insert(&mut shop, "sales", 1..=10);
    stage.wait_for_records("sales", 10);
    // What has arrived but is not settled when the workers end is sent again, by both.
    wait_for_empty_queue(&mut shop);
    drop(shop);
    at_once(&mut db, "create database copy template shop");
    let time = took(|| {
        wait_for_workers(&mut db, "copy", 2);
        wait_for_workers(&mut db, "shop", 2);
    });
    assert!(time < AT_ONCE, "{time:?}");
    let mut copy = stage.cluster.client("copy", "postgres");
    insert(&mut copy, "sales", 21..=30);
    let mut shop = stage.cluster.client("shop", "postgres");
    insert(&mut shop, "sales", 11..=20);
    stage.wait_for_records("sales", 30);
    assert_each_once(&stage.standin, "sales", 1..=30);
}

#[test]
fn a_database_made_from_a_template_with_the_extension_is_served_at_once() {
    let stage = Stage::builder().setting("max_worker_processes", 20).start().unwrap();
    let mut db = stage.admin();
    stage.cluster.client("template1", "postgres").batch_execute("create extension audit_algolia").unwrap();
    at_once(&mut db, "create database shop");
    let time = took(|| wait_for_workers(&mut db, "shop", 2));
    assert!(time < AT_ONCE, "{time:?}");
}

#[test]
fn a_renamed_database_is_served_under_its_new_name() {
    let (stage, mut db, mut shop) = with_shop();
    insert(&mut shop, "sales", 1..=10);
    stage.wait_for_records("sales", 10);
    drop(shop);
    at_once(&mut db, "alter database shop rename to store");
    let time = took(|| wait_for_workers(&mut db, "store", 2));
    assert!(time < AT_ONCE, "{time:?}");
    let mut store = stage.cluster.client("store", "postgres");
    insert(&mut store, "sales", 11..=20);
    stage.wait_for_records("sales", 20);
}

#[test]
fn a_name_in_the_list_counts_at_the_moment_of_the_rename() {
    let stage = Stage::builder()
        .setting("max_worker_processes", 20)
        .setting("audit_algolia.databases", "shop, \"my \"\"store\"\"\"")
        .start()
        .unwrap();
    let mut db = stage.admin();
    drop(add(&stage, &mut db, "shop"));
    assert!(workers(&mut db, "postgres").is_empty());
    at_once(&mut db, "alter database shop rename to hidden");
    // A process may look at the database or take a moment to end, but none delivers.
    let mut hidden = stage.cluster.client("hidden", "postgres");
    insert(&mut hidden, "sales", 1..=10);
    drop(hidden);
    stays_true("nothing sent", Duration::from_millis(500), || stage.standin.index("sales").is_empty());
    wait_for_workers(&mut db, "hidden", 0);
    at_once(&mut db, "alter database hidden rename to \"my \"\"store\"\"\"");
    let time = took(|| wait_for_workers(&mut db, "my \"store\"", 2));
    assert!(time < AT_ONCE, "{time:?}");
    stage.wait_for_records("sales", 10);
}

#[test]
fn a_drop_that_fails_lets_the_workers_back_in() {
    let (stage, mut db, mut shop) = with_shop();
    // The session in `shop` blocks it; PostgreSQL waits five seconds for it.
    assert!(db.batch_execute("drop database shop").is_err());
    wait_for_workers(&mut db, "shop", 2);
    insert(&mut shop, "sales", 1..=10);
    stage.wait_for_records("sales", 10);
}

#[test]
fn a_drop_that_is_broken_off_lets_the_workers_back_in() {
    let (stage, mut db, mut shop) = with_shop();
    for function in ["pg_cancel_backend", "pg_terminate_backend"] {
        std::thread::scope(|scope| {
            let dropping = scope.spawn(|| {
                let mut session = stage.admin();
                session.batch_execute("drop database shop").is_err()
            });
            wait_for_workers(&mut db, "shop", 0);
            db.batch_execute(&format!(
                "select {function}(pid) from pg_stat_activity where query = 'drop database shop'"
            ))
            .unwrap();
            assert!(dropping.join().unwrap());
        });
        let time = took(|| wait_for_workers(&mut db, "shop", 2));
        assert!(time < AT_ONCE, "{time:?}");
    }
    insert(&mut shop, "sales", 1..=10);
    stage.wait_for_records("sales", 10);
}

#[test]
fn who_may_not_drop_a_database_does_not_disturb_its_workers() {
    let (stage, mut db, _shop) = with_shop();
    db.batch_execute("create role nobody login").unwrap();
    let before = workers(&mut db, "shop");
    let mut nobody = stage.cluster.client("postgres", "nobody");
    for statement in
        ["drop database shop", "alter database shop rename to mine", "create database mine template shop"]
    {
        assert!(nobody.batch_execute(statement).is_err());
    }
    assert!(db.batch_execute("begin; drop database shop").is_err());
    stays_true("the same workers", Duration::from_millis(300), || {
        workers(&mut stage.admin(), "shop") == before
    });
}

#[test]
fn a_database_is_dropped_right_after_a_restart() {
    let (stage, mut db, mut shop) = with_shop();
    shop.batch_execute("select audit_algolia.pause('sales')").unwrap();
    insert(&mut shop, "sales", 1..=20_000);
    drop(shop);
    for _ in 0..3 {
        drop(db);
        stage.cluster.restart(audit_algolia_tests::server::StopMode::Fast).unwrap();
        db = stage.admin();
        at_once(&mut db, "create database copy template shop");
        at_once(&mut db, "drop database copy");
    }
    at_once(&mut db, "drop database shop");
}

#[test]
fn the_list_of_databases_follows_a_reload() {
    let (stage, mut db, mut shop) = with_shop();
    stage.cluster.set(&[("audit_algolia.databases", "postgres")]).unwrap();
    wait_for_workers(&mut db, "shop", 0);
    insert(&mut shop, "sales", 1..=10);
    insert(&mut db, "log", 1..=10);
    stage.wait_for_records("log", 10);
    wait_for_state(&mut shop, "sales", "no worker");
    stage.cluster.set(&[("audit_algolia.databases", "shop")]).unwrap();
    stage.wait_for_records("sales", 10);
    wait_for_workers(&mut db, "postgres", 0);
    stage.cluster.set(&[("audit_algolia.databases", "*")]).unwrap();
    wait_until("all workers", SOON, || {
        workers(&mut db, "postgres").len() == 2 && workers(&mut db, "shop").len() == 2
    });
}

#[test]
fn a_template_is_left_alone_and_whoever_may_create_databases_copies_it() {
    let (stage, mut db, shop) = with_shop();
    drop(shop);
    db.batch_execute("create role maker login createdb; create role visitor login").unwrap();
    for name in ["maker", "visitor"] {
        let refused =
            stage.cluster.client("postgres", name).batch_execute("create database copy template shop");
        assert_eq!(refused.unwrap_err().code().unwrap().code(), "42501");
        assert_eq!(workers(&mut db, "shop").len(), 2, "nobody leaves for somebody who may not copy it");
    }
    // Without the launcher's knowledge, so that the workers are probably still running.
    db.batch_execute("update pg_database set datistemplate = true where datname = 'shop'").unwrap();
    at_once(&mut stage.cluster.client("postgres", "maker"), "create database copy template shop");
    // As PostgreSQL's own statement turns a database into a template and back.
    db.batch_execute("alter database shop is_template false").unwrap();
    wait_for_workers(&mut db, "shop", 2);
    db.batch_execute("alter database shop is_template true").unwrap();
    wait_for_workers(&mut db, "shop", 0);
    db.batch_execute("alter database shop is_template false").unwrap();
    wait_for_workers(&mut db, "shop", 2);
}
