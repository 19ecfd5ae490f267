//! Settings that are changed while the server runs take effect without a restart.

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{ADMIN_KEY, APP_ID};
use audit_algolia_tests::wait::{stays_true, wait_until};
use std::time::Duration;

use crate::support::*;

#[test]
fn the_number_of_workers_follows_a_reload() {
    let stage = Stage::builder().setting("max_worker_processes", 16).start().unwrap();
    let mut db = staged(&stage, "log");
    let mut next = 1;
    for count in [2, 4, 0, 1] {
        stage.cluster.set(&[("audit_algolia.workers", &count.to_string())]).unwrap();
        wait_for_workers(&mut db, "postgres", count);
        insert(&mut db, "log", next..=next + 99);
        next += 100;
        if count == 0 {
            wait_for_state(&mut db, "log", "no worker");
            assert_eq!(queue(&mut db, "log").queued, 100);
        } else {
            stage.wait_for_records("log", next as usize - 1);
            wait_for_empty_queue(&mut db);
        }
    }
    assert_each_once(&stage.standin, "log", 1..next);
    assert_no_faults(&stage.cluster);
}

#[test]
fn a_worker_too_many_leaves_when_its_requests_are_back() {
    let stage = Stage::builder().setting("audit_algolia.workers", 1).start().unwrap();
    let mut db = staged(&stage, "log");
    wait_for_workers(&mut db, "postgres", 1);
    stage.standin.set_latency(Duration::from_millis(700));
    insert(&mut db, "log", 1..=50);
    wait_until("a request", SOON, || stage.standin.request_count() > 0);
    stage.cluster.set(&[("audit_algolia.workers", "0")]).unwrap();
    wait_for_workers(&mut db, "postgres", 0);
    assert_each_once(&stage.standin, "log", 1..51);
    assert_eq!(queue(&mut db, "log").queued, 0, "what has arrived is deleted");
}

#[test]
fn delivery_is_switched_off_and_on() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    stage.cluster.set(&[("audit_algolia.enabled", "off")]).unwrap();
    wait_for_state(&mut db, "log", "paused");
    insert(&mut db, "log", 1..=10);
    stays_true("nothing sent", Duration::from_millis(300), || stage.standin.request_count() == 0);
    assert_eq!(queue(&mut db, "log").queued, 10);
    stage.cluster.set(&[("audit_algolia.enabled", "on")]).unwrap();
    stage.wait_for_records("log", 10);
}

#[test]
fn the_size_of_batches_follows_a_reload() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    stage.cluster.set(&[("audit_algolia.batch_rows", "3"), ("audit_algolia.workers", "1")]).unwrap();
    wait_for_workers(&mut db, "postgres", 1);
    wait_until("the new size", SOON, || one::<String>(&mut db, "show audit_algolia.batch_rows") == "3");
    insert(&mut db, "log", 1..=30);
    stage.wait_for_records("log", 30);
    assert!(stage.standin.batches("log").iter().all(|batch| batch.len() <= 3));
}

#[test]
fn without_an_application_rows_wait_until_it_is_named() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    stage.cluster.set(&[("audit_algolia.application_id", "")]).unwrap();
    wait_for_state(&mut db, "log", "not configured");
    insert(&mut db, "log", 1..=10);
    stage.cluster.set(&[("audit_algolia.application_id", APP_ID)]).unwrap();
    stage.wait_for_records("log", 10);
    wait_for_state(&mut db, "log", "idle");
}

#[test]
fn a_wrong_key_blocks_and_the_right_one_delivers_at_once() {
    let stage = Stage::builder().setting("audit_algolia.api_key", "a-wrong-key-77").start().unwrap();
    // The stage has set the right key; a reload sets a wrong one.
    stage.cluster.set(&[("audit_algolia.api_key", "a-wrong-key-77")]).unwrap();
    let mut db = staged(&stage, "log");
    let mut next = 1;
    wait_until("a refusal", SOON, || {
        insert(&mut db, "log", next..=next);
        next += 1;
        queue(&mut db, "log").state == "blocked"
    });
    let seen = queue(&mut db, "log");
    assert!(seen.last_error.contains("403"), "{}", seen.last_error);
    assert!(seen.last_error.contains("audit_algolia.api_key"), "{}", seen.last_error);
    let time = took(|| {
        stage.cluster.set(&[("audit_algolia.api_key", ADMIN_KEY)]).unwrap();
        stage.wait_for_records("log", next as usize - 1);
    });
    assert!(time < AT_ONCE, "{time:?}");
    wait_for_state(&mut db, "log", "idle");
}

#[test]
fn a_key_file_is_read_at_a_reload() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    let file = KeyFile::new(&stage, "not-the-key-yet\n", 0o600);
    stage.cluster.set(&[("audit_algolia.api_key", ""), ("audit_algolia.api_key_file", file.path())]).unwrap();
    let mut next = 1;
    wait_until("a refusal", SOON, || {
        insert(&mut db, "log", next..=next);
        next += 1;
        queue(&mut db, "log").state == "blocked"
    });
    file.write(&format!("{ADMIN_KEY}\n"));
    stage.cluster.reload().unwrap();
    stage.wait_for_records("log", next as usize - 1);
    assert!(!stage.cluster.log().contains("not-the-key-yet"));
    assert!(!stage.cluster.log().contains(ADMIN_KEY));
}
