//! Processes that are asked to end, or end without being asked.

use std::time::Duration;

use audit_algolia_tests::server::StopMode;
use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{Fault, Times};
use audit_algolia_tests::wait::wait_until;
use nix::sys::signal::Signal;

use crate::support::*;

fn launcher(db: &mut postgres::Client) -> Option<i32> {
    db.query_opt("select pid from pg_stat_activity where backend_type = 'audit_algolia launcher'", &[])
        .unwrap()
        .map(|row| row.get(0))
}

#[test]
fn terminated_workers_and_launcher_come_back() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    wait_for_workers(&mut db, "postgres", 2);
    let before = workers(&mut db, "postgres");
    let old_launcher = launcher(&mut db).unwrap();
    db.batch_execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where backend_type like 'audit_algolia%'",
    )
    .unwrap();
    insert(&mut db, "log", 1..=10);
    let time = took(|| {
        wait_until("new processes", SOON, || {
            let after = workers(&mut db, "postgres");
            after.len() == 2
                && after.iter().all(|pid| !before.contains(pid))
                && launcher(&mut db).is_some_and(|pid| pid != old_launcher)
        });
    });
    assert!(time < Duration::from_secs(6), "{time:?}");
    stage.wait_for_records("log", 10);
}

#[test]
fn workers_terminated_with_requests_in_flight_lose_nothing() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    stage.standin.fault(None, Fault::Hang, Times::Always);
    insert(&mut db, "log", 1..=3000);
    wait_until("hanging requests", SOON, || stage.standin.in_hang() >= 2);
    stage.standin.clear_faults();
    stage.standin.fault(None, Fault::Hang, Times::Count(2));
    wait_for_workers(&mut db, "postgres", 2);
    db.batch_execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'audit_algolia worker'",
    )
    .unwrap();
    stage.standin.clear_faults();
    stage.wait_for_records("log", 3000);
    assert_holds(&stage.standin, "log", 1..=3000);
    wait_for_empty_queue(&mut db);
}

#[test]
fn a_killed_worker_restarts_the_server_and_all_rows_arrive() {
    let stage = Stage::builder().setting("audit_algolia.batch_rows", 50).start().unwrap();
    let mut db = staged(&stage, "log");
    stage.standin.fault(None, Fault::Hang, Times::Always);
    insert(&mut db, "log", 1..=1000);
    wait_until("hanging requests", SOON, || stage.standin.in_hang() >= 3);
    let victim = a_worker(&mut db, "postgres");
    stage.cluster.kill_backend(victim, Signal::SIGKILL).unwrap();
    wait_until("the crash", SOON, || db.batch_execute("select 1").is_err());
    stage.standin.clear_faults();
    let mut db = stage.session();
    insert(&mut db, "log", 1001..=1100);
    stage.wait_for_records("log", 1100);
    assert_holds(&stage.standin, "log", 1..=1100);
    wait_for_empty_queue(&mut db);
}

#[test]
fn an_immediate_stop_with_requests_in_flight_loses_nothing() {
    let stage = Stage::builder().setting("audit_algolia.batch_rows", 50).start().unwrap();
    let mut db = staged(&stage, "log");
    stage.standin.fault(None, Fault::Hang, Times::Always);
    insert(&mut db, "log", 1..=1000);
    wait_until("hanging requests", SOON, || stage.standin.in_hang() >= 3);
    stage.cluster.stop(StopMode::Immediate).unwrap();
    stage.standin.clear_faults();
    stage.cluster.start().unwrap();
    stage.wait_for_records("log", 1000);
    wait_for_empty_queue(&mut stage.admin());
}

#[test]
fn a_server_that_is_stopped_again_and_again_while_it_delivers_loses_nothing() {
    let stage = Stage::builder()
        .setting("audit_algolia.batch_rows", 20)
        .standin(|standin| standin.latency = Duration::from_millis(3))
        .start()
        .unwrap();
    drop(staged(&stage, "log"));
    for round in 0..6 {
        let mut db = stage.admin();
        insert(&mut db, "log", round * 1000 + 1..=round * 1000 + 1000);
        let before = stage.standin.operations("log");
        wait_until("some deliveries", SOON, || stage.standin.operations("log") > before + 100);
        drop(db);
        let mode = [StopMode::Fast, StopMode::Immediate, StopMode::Smart][round as usize % 3];
        let time = stage.cluster.stop(mode).unwrap();
        assert!(time < AT_ONCE, "{mode:?}: {time:?}");
        stage.cluster.start().unwrap();
    }
    stage.wait_for_records("log", 6000);
    assert_holds(&stage.standin, "log", 1..=6000);
    wait_for_empty_queue(&mut stage.admin());
    assert!(!stage.cluster.log().contains("terminated by signal"));
}

#[test]
fn too_few_process_slots_are_told_once_and_used_when_they_become_free() {
    // One for logical replication, one for the launcher, and one more.
    let stage = Stage::builder().setting("max_worker_processes", 3).start().unwrap();
    let mut db = staged(&stage, "log");
    insert(&mut db, "log", 1..=10);
    stage.wait_for_records("log", 10);
    let warning = "could not start a worker: no process slot is free";
    wait_until("the warning", SOON, || stage.cluster.log().contains(warning));
    assert!(stage.cluster.log().contains("HINT:  Raise max_worker_processes"));
    // The launcher checks again, and has nothing new to log.
    for size in ["500", "600", "700"] {
        stage.cluster.set(&[("audit_algolia.batch_rows", size)]).unwrap();
        wait_until("the reload", SOON, || one::<String>(&mut db, "show audit_algolia.batch_rows") == size);
    }
    assert_eq!(stage.cluster.log().matches(warning).count(), 1);
    // Another database is added: one worker for two of them.
    db.batch_execute("create database other").unwrap();
    let mut other = stage.cluster.client("other", "postgres");
    other.batch_execute("create extension audit_algolia").unwrap();
    watch(&mut other, "more");
    insert(&mut other, "more", 1..=10);
    assert_eq!(queue(&mut other, "more").queued, 10);
    stage.cluster.set(&[("audit_algolia.databases", "other")]).unwrap();
    stage.wait_for_records("more", 10);
}
