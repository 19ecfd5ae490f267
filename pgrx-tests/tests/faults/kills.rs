//! Processes that are ended in any way and at any moment, while writers go on.

use audit_algolia_tests::server::StopMode;
use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{Fault, Times};
use audit_algolia_tests::wait::{eventually, wait_until};
use nix::sys::signal::Signal;

use crate::support::*;
use crate::traffic::{assert_delivered, prepare, under_traffic, Traffic};

fn stage() -> Stage {
    let stage = Stage::builder()
        .setting("audit_algolia.batch_rows", 50)
        .setting("audit_algolia.retry_min", "10ms")
        .setting("audit_algolia.retry_max", "100ms")
        .start()
        .unwrap();
    prepare(&mut stage.admin());
    stage
}

/// Kills the process that the query finds, as soon as it finds one, and waits until the server has noticed.
fn kill(stage: &Stage, query: &str) {
    let mut witness = stage.session();
    let pid: i32 = eventually("a process to kill", SOON, || {
        witness.query_opt(query, &[]).unwrap().map(|row| row.get(0))
    });
    stage.cluster.kill_backend(pid, Signal::SIGKILL).unwrap();
    wait_until("the crash", SOON, || witness.batch_execute("select 1").is_err());
    drop(stage.session());
}

#[test]
fn whoever_is_killed_or_terminated_nothing_is_lost() {
    let stage = stage();
    under_traffic(&stage.cluster, 0, |traffic: &Traffic| {
        for processes in ["= 'audit_algolia worker'", "= 'audit_algolia launcher'", "like 'audit_algolia %'"]
        {
            stage
                .session()
                .batch_execute(&format!(
                    "select pg_terminate_backend(pid) from pg_stat_activity where backend_type {processes}"
                ))
                .unwrap();
            traffic.wait_for_commits(20);
        }
        kill(&stage, "select pid from pg_stat_activity where backend_type = 'audit_algolia launcher'");
        traffic.wait_for_commits(20);
        kill(
            &stage,
            "select pid from pg_stat_activity
             where backend_type = 'client backend' and pid <> pg_backend_pid() and backend_xid is not null limit 1",
        );
        traffic.wait_for_commits(20);
        stage.standin.fault(None, Fault::Hang, Times::Always);
        wait_until("hanging requests", SOON, || stage.standin.in_hang() >= 2);
        kill(&stage, "select pid from pg_stat_activity where backend_type = 'audit_algolia worker' limit 1");
        stage.standin.clear_faults();
    });
    assert_delivered(&stage.cluster, &stage.standin);
}

#[test]
fn a_worker_that_ends_between_any_two_steps_loses_nothing() {
    let stage = stage();
    let points = [
        "before claim",
        "in claim",
        "after claim",
        "after sending",
        "before settlement",
        "in settlement",
        "after settlement",
    ];
    let file = stage.cluster.data_dir().join("audit_algolia.failpoint");
    under_traffic(&stage.cluster, 0, |traffic| {
        for point in points {
            // After an error, the next start of a worker is delayed. A kill restarts the server, which ends the delay.
            for action in ["error", "kill"] {
                let mut witness = stage.session();
                std::fs::write(&file, format!("{point} {action}")).unwrap();
                wait_until(&format!("somebody {point}"), SOON, || !file.exists());
                if action == "kill" {
                    wait_until("the crash", SOON, || witness.batch_execute("select 1").is_err());
                }
                traffic.wait_for_commits(5);
            }
        }
    });
    assert_delivered(&stage.cluster, &stage.standin);
}

#[test]
fn a_server_that_stops_while_requests_hang_stops_at_once_and_loses_nothing() {
    let stage = stage();
    for (round, mode) in [(0, StopMode::Fast), (1, StopMode::Immediate)] {
        under_traffic(&stage.cluster, round, |_| {
            stage.standin.fault(None, Fault::Hang, Times::Always);
            wait_until("hanging requests", SOON, || stage.standin.in_hang() >= 2);
            let time = stage.cluster.stop(mode).unwrap();
            assert!(time < AT_ONCE, "{mode:?}: {time:?}");
            stage.standin.clear_faults();
            stage.cluster.start().unwrap();
        });
    }
    // A smart shutdown waits for sessions, but not for our processes.
    stage.standin.fault(None, Fault::Hang, Times::Always);
    let mut db = stage.session();
    db.batch_execute("insert into traffic select n, 'last' from generate_series(1, 500) as n").unwrap();
    wait_until("hanging requests", SOON, || stage.standin.in_hang() >= 2);
    drop(db);
    let time = stage.cluster.stop(StopMode::Smart).unwrap();
    assert!(time < AT_ONCE, "{time:?}");
    stage.standin.clear_faults();
    stage.cluster.start().unwrap();
    assert_delivered(&stage.cluster, &stage.standin);
}
