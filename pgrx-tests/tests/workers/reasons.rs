//! Why nothing is delivered: `queue_stats()` shows the reason, even if no worker is running.

use audit_algolia_tests::stage::{one, Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::support::*;

/// Waits until the statistics of an index show this state and a reason that contains these words.
#[track_caller]
fn wait_for_reason(db: &mut Client, index: &str, state: &str, words: &str) {
    let mut last = (String::new(), String::new());
    let reached = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_until("the reason", SOON, || {
            let seen = queue(db, index);
            last = (seen.state, seen.last_error);
            last.0 == state && last.1.contains(words)
        });
    }));
    assert!(reached.is_ok(), "{last:?} instead of {state}: {words}");
}

#[test]
fn a_worker_that_ends_with_an_error_again_and_again_leaves_the_reason_until_one_works() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    insert(&mut db, "log", 1..=10);
    stage.wait_for_records("log", 10);
    wait_for_empty_queue(&mut db);
    assert_eq!(queue(&mut db, "log").last_error, "");
    db.batch_execute("alter table audit_algolia.queue rename column record to renamed").unwrap();
    db.batch_execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'audit_algolia worker'",
    )
    .unwrap();
    wait_for_reason(&mut db, "log", "no worker", "column q.record does not exist (42703)");
    assert!(one::<bool>(
        &mut db,
        "select last_error_at > now() - interval '1 minute' from audit_algolia.queue_stats()"
    ));
    assert!(one::<String>(&mut db, "select audit_algolia.metrics()")
        .contains("audit_algolia_last_error_timestamp_seconds{"));
    db.batch_execute("alter table audit_algolia.queue rename column renamed to record").unwrap();
    wait_for_reason(&mut db, "log", "idle", "");
    wait_until("the reason to be forgotten", SOON, || queue(&mut db, "log").last_error.is_empty());
    insert(&mut db, "log", 11..=20);
    stage.wait_for_records("log", 20);
}

#[test]
fn that_no_process_can_be_started_is_told() {
    // One for logical replication, one for the launcher.
    let stage = Stage::builder().setting("max_worker_processes", 2).start().unwrap();
    let mut db = staged(&stage, "log");
    insert(&mut db, "log", 1..=10);
    wait_for_reason(&mut db, "log", "no worker", "no process slot is free");
    assert!(queue(&mut db, "log").last_error.contains("Raise max_worker_processes"));
}

#[test]
fn that_nobody_is_to_deliver_is_told() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    wait_for_state(&mut db, "log", "idle");
    stage.cluster.set(&[("audit_algolia.workers", "0")]).unwrap();
    wait_for_reason(&mut db, "log", "no worker", "audit_algolia.workers is 0");
    stage.cluster.set(&[("audit_algolia.workers", "2"), ("audit_algolia.databases", "other")]).unwrap();
    wait_for_reason(
        &mut db,
        "log",
        "no worker",
        "audit_algolia.databases does not name database \"postgres\"",
    );
    stage.cluster.set(&[("audit_algolia.databases", "*")]).unwrap();
    wait_for_reason(&mut db, "log", "idle", "");
    assert_eq!(queue(&mut db, "log").last_error, "");
}

#[test]
fn that_the_library_is_not_preloaded_is_told() {
    let stage = Stage::builder().preload(false).start().unwrap();
    let mut db = staged(&stage, "log");
    wait_for_reason(&mut db, "log", "no worker", "shared_preload_libraries");
}

#[test]
fn that_library_and_extension_are_of_different_versions_is_told() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    wait_for_state(&mut db, "log", "idle");
    let version: String = one(&mut db, "select extversion from pg_extension where extname = 'audit_algolia'");
    let set = "update pg_extension set extversion = $1 where extname = 'audit_algolia'";
    db.execute(set, &[&"0.0.9"]).unwrap();
    replace_workers(&mut db, "postgres");
    insert(&mut db, "log", 1..=10);
    wait_until("the reason", SOON, || {
        queue(&mut db, "log")
            .last_error
            .contains("the extension 0.0.9. Run ALTER EXTENSION audit_algolia UPDATE")
    });
    db.execute(set, &[&version]).unwrap();
    replace_workers(&mut db, "postgres");
    stage.wait_for_records("log", 10);
    wait_until("the reason to be forgotten", SOON, || queue(&mut db, "log").last_error.is_empty());
}
