//! If it is unknown whether Algolia has accepted a batch, it is sent again under the same objectIDs. The index holds
//! each record once.

use std::time::Duration;

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{Fault, Times};
use audit_algolia_tests::wait::wait_until;
use nix::sys::signal::Signal;

use crate::support::*;

/// Asserts that everything arrived, some of it more than once, and that the index does not show it.
#[track_caller]
fn assert_sent_again_and_held_once(stage: &Stage, rows: i64) {
    stage.wait_for_records("log", rows as usize);
    let mut db = stage.admin();
    wait_for_empty_queue(&mut db);
    assert_holds(&stage.standin, "log", 1..=rows);
    assert!(sent(&stage.standin, "log").len() > rows as usize, "it was not sent again");
}

#[test]
fn a_batch_taken_without_an_answer_is_sent_again() {
    for fault in [Fault::AcceptThenHang, Fault::AcceptThenDrop, Fault::Truncate, Fault::EmptyNoContent] {
        let stage = Stage::builder()
            .setting("audit_algolia.request_timeout", "300ms")
            .setting("audit_algolia.retry_min", "10ms")
            .start()
            .unwrap();
        let mut db = staged(&stage, "log");
        stage.standin.fault(None, fault, Times::Count(2));
        insert(&mut db, "log", 1..=10);
        assert_sent_again_and_held_once(&stage, 10);
    }
}

/// Lets a batch be accepted while nothing can be deleted from the queue. Returns the worker that waits to do so, and
/// the session that holds the lock.
fn accepted_and_not_deleted(stage: &Stage) -> (i32, postgres::Client) {
    let mut db = staged(stage, "log");
    stage.standin.fault(None, Fault::HangFor(Duration::from_secs(60)), Times::Once);
    insert(&mut db, "log", 1..=10);
    wait_until("the request", SOON, || stage.standin.in_hang() == 1);
    let mut locker = stage.admin();
    locker.batch_execute("begin; lock table audit_algolia.queue in share mode").unwrap();
    stage.standin.clear_faults();
    let waiting = "
        select max(pid) from pg_stat_activity
        where backend_type = 'audit_algolia worker' and wait_event_type = 'Lock'";
    wait_until("the answer", SOON, || one::<Option<i32>>(&mut db, waiting).is_some());
    assert_holds(&stage.standin, "log", 1..=10);
    (one(&mut db, waiting), locker)
}

#[test]
fn a_worker_that_ends_between_the_answer_and_the_delete_has_it_sent_again() {
    let stage = Stage::builder().start().unwrap();
    let (worker, mut locker) = accepted_and_not_deleted(&stage);
    let mut db = stage.admin();
    assert!(one::<bool>(&mut db, &format!("select pg_terminate_backend({worker}, 20000)")));
    locker.batch_execute("commit").unwrap();
    assert_sent_again_and_held_once(&stage, 10);
}

#[test]
fn a_worker_that_is_killed_between_the_answer_and_the_delete_has_it_sent_again() {
    let stage = Stage::builder().start().unwrap();
    let (worker, mut locker) = accepted_and_not_deleted(&stage);
    stage.cluster.kill_backend(worker, Signal::SIGKILL).unwrap();
    wait_until("the crash", SOON, || locker.batch_execute("select 1").is_err());
    wait_until("the server", SOON, || stage.cluster.connect("postgres", "postgres").is_ok());
    assert_sent_again_and_held_once(&stage, 10);
}
